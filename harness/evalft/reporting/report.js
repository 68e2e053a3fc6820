"use strict";
(() => {
  const controls = document.getElementById("filter");
  if (!controls) return;
  const rows = [...document.querySelectorAll(".example")];
  const words = rows.map((row) => row.textContent.toLowerCase());
  const search = document.getElementById("search");
  const outcome = document.getElementById("outcome");
  const shown = document.getElementById("shown");
  const apply = () => {
    const wanted = search.value.toLowerCase().trim();
    const [candidate, mark] = outcome.value.split(" ");
    let count = 0;
    rows.forEach((row, i) => {
      const marks = row.dataset.marks.split(" ");
      const fits =
        !candidate ||
        (candidate === "any" ? marks.some((m) => m !== "right") :
         candidate === "differ" ? new Set(marks).size > 1 : mark.split(",").includes(marks[Number(candidate)]));
      row.hidden = !(fits && (!wanted || words[i].includes(wanted)));
      count += row.hidden ? 0 : 1;
    });
    shown.textContent = `${count} of ${rows.length} rows shown`;
  };
  let timer = 0;
  search.addEventListener("input", () => { clearTimeout(timer); timer = setTimeout(apply, 120); });
  outcome.addEventListener("change", apply);
  controls.hidden = false;
  apply();
})();
