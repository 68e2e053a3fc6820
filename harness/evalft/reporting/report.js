"use strict";
(() => {
  const block = document.getElementById("rows");
  if (!block) return;
  const PAGE = 50;
  const SIGNS = { right: "✓", wrong: "✗", partly: "≈", failed: "✗", unscored: "–" };
  const { candidates, labels, tags, rows } = JSON.parse(block.textContent);
  const at = (id) => document.getElementById(id);
  const list = at("list"), search = at("search"), outcome = at("outcome"), shown = at("shown");

  // What others wrote becomes text nodes only; rows.html.j2 lays a row out in the same way.
  const make = (name, attributes, ...children) => {
    const element = document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    element.append(...children.filter((child) => child !== null));
    return element;
  };
  const tag = (words, kind = "") => make("span", { class: `tag ${kind}`.trim() }, make("bdi", {}, words));
  const soft = (...words) => make("p", { class: "soft", dir: "auto" }, ...words);
  const pieces = (text, element) => // an array holds same and differing pieces in turn
    typeof text === "string" ? [text] : text.map((piece, i) => (i % 2 ? make(element, {}, piece) : piece));
  const count = (text, letters) => (text.match(letters) ?? []).length;
  const SCRIPTS = { ko: /[\u1100-\u11ff\u3131-\u318e\uac00-\ud7a3]/gu, ja: /[\u3041-\u3096\u30a1-\u30fa]/gu,
    zh: /[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\u{20000}-\u{323af}]/gu };
  const language = (text) => { // as language() of text.py
    const counts = Object.entries(SCRIPTS).map(([name, letters]) => [name, count(text, letters)]);
    const all = counts.reduce((sum, [, found]) => sum + found, 0);
    return 2 * all < count(text, /[A-Za-z]/g) ? undefined : counts.find(([, found]) => found)?.[0];
  };
  const every = (text) => (typeof text === "string" ? text : text.join(""));
  const said = (text, element) => {
    const lang = language(every(text));
    return make("p", { class: "words", dir: "auto", ...(lang && { lang }) }, ...pieces(text, element));
  };

  const side = ({ texts = [], mark, score, failure, labels: read, rescued, message }, i) => {
    const { name, stand_in, side: which } = candidates[i];
    const detail = failure ? `: ${failure}` : score ? ` (${score})` : "";
    const sign = make("span", { "aria-hidden": "true" }, SIGNS[mark]);
    return make("div", {},
      make("h4", {}, which ? `${which}: ` : "", make("bdi", {}, name), " ", stand_in ? tag(stand_in, "stand-in") : "", " ",
        make("span", { class: `mark ${mark}` }, sign, ` ${mark}${detail}`)),
      ...(texts.length ? texts.map((text) => said(text, which === "Before" ? "del" : "ins")) : [soft("no answer")]),
      read ? soft("read as: ", make("bdi", {}, read)) : null,
      rescued ? soft("only the lenient parser understood it") : null,
      message ? soft(message) : null);
  };
  const article = (row) => {
    const title = [make("span", {}, `Row ${row.number}`), make("bdi", {}, row.id)];
    if (row.change) title.push(tag(row.change, row.change));
    title.push(...(row.tags ?? []).map((words) => tag(words)));
    if (row.group) title.push(tag(`group: ${row.group}`));
    if (row.source) title.push(make("span", {}, make("bdi", {}, row.source)));
    return make("article", { class: "example", tabindex: "-1" },
      make("h3", {}, ...title.flatMap((part) => [part, " "])),
      ...row.input.flatMap(([role, words]) => [role ? make("span", { class: "soft" }, role) : null, said(words)]),
      make("div", { class: "sides" },
        make("div", {}, make("h4", {}, "Expected"), said(row.target, "mark")), ...row.answers.map(side)));
  };

  const plain = (text) => text.normalize("NFC").toLowerCase();
  let words = null; // of each row, made at the first search
  const wordsOf = (row) => plain([row.id, row.source ?? "", row.group ?? "", every(row.target), ...(row.tags ?? []),
    ...row.input.map(([, text]) => text),
    ...row.answers.flatMap((a) => [...(a.texts ?? []).map(every), a.labels ?? "", a.failure ?? "", a.message ?? ""])].join("\n"));

  const missed = ({ mark }) => mark === "wrong" || mark === "partly" || mark === "failed";
  const failed = ({ mark }) => mark === "failed";
  const fits = (row, [kind, who]) => {
    if (kind === "broken" || kind === "fixed") return row.change === kind;
    if (kind === "differ") return row.answers.some(missed) && row.answers.some(({ mark }) => mark === "right");
    const test = kind === "failed" ? failed : missed;
    return !kind || (who ? test(row.answers[who]) : row.answers.some(test));
  };
  const chosen = (id, names) => (at(id) ? names[at(id).value - 1] : undefined); // the first option is any

  let left = rows, start = 0;
  const show = (moved) => {
    const part = left.slice(start, start + PAGE);
    list.replaceChildren(...part.map(article));
    const where = part.length < left.length ? `; ${start + 1} to ${start + part.length} on this page` : "";
    shown.textContent = `${left.length} of ${rows.length} rows${where}`;
    at("previous").disabled = start === 0;
    at("next").disabled = start + PAGE >= left.length;
    at("pages").hidden = left.length <= PAGE;
    if (moved) list.firstElementChild.focus();
  };
  const apply = () => {
    const wanted = plain(search.value.trim()), kind = outcome.value.split(" ");
    const label = chosen("label", labels), choice = chosen("tag", tags);
    if (wanted) words ??= rows.map(wordsOf);
    left = rows.filter((row, i) => fits(row, kind) && (label === undefined || (row.labels ?? []).includes(label)) &&
      (choice === undefined || (row.tags ?? []).includes(choice)) && (!wanted || words[i].includes(wanted)));
    start = 0;
    show(false);
  };
  let timer = 0;
  search.addEventListener("input", () => { clearTimeout(timer); timer = setTimeout(apply, 120); });
  for (const id of ["outcome", "label", "tag"]) at(id)?.addEventListener("change", apply);
  at("previous").addEventListener("click", () => { start -= PAGE; show(true); });
  at("next").addEventListener("click", () => { start += PAGE; show(true); });
  at("filter").hidden = false;
  apply();
})();
