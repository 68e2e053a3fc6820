"""Metric values equal scikit-learn's on the arrays that metrics.labels describes; text metrics; names and their faults."""

import math
import threading
import warnings
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest
from sklearn import metrics as sk

from evalft import metrics
from evalft.config import MetricSpec
from evalft.errors import UserError
from evalft.metrics import labels as label_metrics
from evalft.metrics import probability, text
from evalft.metrics.labels import arrays
from evalft.records import Example

QUICK = settings(max_examples=30, deadline=None)
LABELS = ("a", "b", "c", "d", "e")
FAILURE = "a failure"
COUNTED = {
    "precision": sk.precision_score,
    "recall": sk.recall_score,
    "f1": sk.f1_score,
    "jaccard": sk.jaccard_score,
}


def near(value):
    return pytest.approx(value, abs=1e-12, rel=1e-12)


def value_of(measure, index=None):
    """A measure's value on all its rows, or on those of `index`."""
    cells = measure.cells if index is None else measure.cells[index]
    weights = np.bincount(cells, minlength=measure.cells.max() + 1).astype(float)[None, :]
    return float(measure.statistic(weights)[0])


# ---------------------------------------------------------------- classification

one_label = st.sampled_from(LABELS)
answer = st.one_of(one_label, st.none(), st.just("a label of nobody"))
classified = st.lists(st.tuples(st.sampled_from(LABELS[:4]), answer), min_size=1, max_size=40)


def as_classes(rows):
    """The arrays of the design: y_true, y_pred with one sentinel, the labels with support."""
    y_true = [target for target, _ in rows]
    y_pred = [said if said in LABELS else FAILURE for _, said in rows]
    return y_true, y_pred, [label for label in LABELS if label in y_true]


def classes(rows):
    return arrays([(target,) for target, _ in rows], [None if said is None else (said,) for _, said in rows], LABELS)


@QUICK
@given(classified, st.sampled_from(sorted(COUNTED)), st.sampled_from(["micro", "macro", "weighted"]))
def test_classification_averages_equal_scikit_learns(rows, base, average):
    y_true, y_pred, supported = as_classes(rows)
    expected = COUNTED[base](y_true, y_pred, labels=supported, average=average, zero_division=0)
    found = label_metrics.measured(f"{base}_{average}", classes(rows), "classification", None)
    assert value_of(found) == near(expected)
    if average == "macro":
        assert value_of(label_metrics.measured(base, classes(rows), "classification", None)) == near(expected)


@QUICK
@given(classified)
def test_accuracy_balanced_accuracy_mcc_and_hamming_equal_scikit_learns(rows):
    y_true, y_pred, supported = as_classes(rows)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # scikit-learn warns of predicted classes that no target has
        expected = {
            "accuracy": sk.accuracy_score(y_true, y_pred),
            "balanced_accuracy": sk.recall_score(y_true, y_pred, labels=supported, average="macro", zero_division=0),
            "mcc": sk.matthews_corrcoef(y_true, y_pred),
            "hamming": sk.hamming_loss(y_true, y_pred),
        }
        assert expected["balanced_accuracy"] == near(sk.balanced_accuracy_score(y_true, y_pred))
    for name, wanted in expected.items():
        assert value_of(label_metrics.measured(name, classes(rows), "classification", None)) == near(wanted), name


@pytest.mark.parametrize("groups", [None, np.arange(60) % 12, np.arange(60) % 40])
def test_a_constant_answer_has_a_correlation_of_0_that_is_no_certainty(groups):
    """Every resample of it gives 0, by convention; nothing is known of how far that is off."""
    rows = classes([(LABELS[i % 3], "a") for i in range(60)])
    found = label_metrics.measured("mcc", rows, "classification", None).interval(groups, 0)
    assert found.value == 0
    assert found.ends(0.025) == (-math.inf, math.inf)
    assert found.reason is not None and "every resample" in found.reason


@QUICK
@given(classified, st.sampled_from(sorted(COUNTED)), one_label)
def test_with_a_positive_label_the_bare_name_means_that_label(rows, base, positive):
    y_true, y_pred, supported = as_classes(rows)
    value = value_of(label_metrics.measured(base, classes(rows), "classification", positive))
    if positive not in supported:
        assert math.isnan(value)
    else:
        expected = COUNTED[base](y_true, y_pred, labels=[positive], average=None, zero_division=0)[0]
        assert value == near(expected)


@QUICK
@given(classified, st.data())
def test_a_metric_on_drawn_rows_is_the_metric_of_those_rows(rows, data):
    index = np.array(data.draw(st.lists(st.integers(0, len(rows) - 1), min_size=1, max_size=40)))
    drawn = [rows[i] for i in index]
    y_true, y_pred, supported = as_classes(drawn)
    expected = {
        "f1_macro": sk.f1_score(y_true, y_pred, labels=supported, average="macro", zero_division=0),
        "jaccard_weighted": sk.jaccard_score(y_true, y_pred, labels=supported, average="weighted", zero_division=0),
        "accuracy": sk.accuracy_score(y_true, y_pred),
    }
    for name, wanted in expected.items():
        assert value_of(label_metrics.measured(name, classes(rows), "classification", None), index) == near(wanted)


@QUICK
@given(classified)
def test_the_confusion_matrix_holds_every_row(rows):
    y_true, y_pred, _ = as_classes(rows)
    expected = sk.confusion_matrix(y_true, y_pred, labels=[*LABELS, FAILURE])[: len(LABELS)]
    assert np.array_equal(label_metrics.confusion(classes(rows)), expected)


# ---------------------------------------------------------------- multi-label

label_set = st.sets(one_label, max_size=3).map(lambda found: tuple(sorted(found)))
several = st.lists(
    st.tuples(st.sets(st.sampled_from(LABELS[:4]), max_size=3).map(tuple), st.one_of(label_set, st.none())),
    min_size=1,
    max_size=40,
)


def indicators(rows):
    """y_true and y_pred (n, 5), a failure being the empty set, and the columns with support."""
    y_true = np.array([[label in target for label in LABELS] for target, _ in rows], dtype=int)
    y_pred = np.array([[label in (said or ()) for label in LABELS] for _, said in rows], dtype=int)
    return y_true, y_pred, np.flatnonzero(y_true.any(axis=0))


def sets(rows):
    return arrays([target for target, _ in rows], [said for _, said in rows], LABELS)


@QUICK
@given(several, st.sampled_from(sorted(COUNTED)), st.sampled_from(["micro", "macro", "weighted"]))
def test_multilabel_averages_equal_scikit_learns(rows, base, average):
    y_true, y_pred, columns = indicators(rows)
    value = value_of(label_metrics.measured(f"{base}_{average}", sets(rows), "multilabel", None))
    if not columns.size:
        assert math.isnan(value)
    else:
        assert value == near(COUNTED[base](y_true, y_pred, labels=columns, average=average, zero_division=0))


@QUICK
@given(several, st.sampled_from(sorted(COUNTED)))
def test_samples_averages_equal_scikit_learns_but_for_real_empty_answers_on_empty_targets(rows, base):
    y_true, y_pred, columns = indicators(rows)
    right_and_empty = np.array([not target and said == () for target, said in rows])
    per_row = [
        COUNTED[base](y_true[[i]], y_pred[[i]], labels=columns, average="samples", zero_division=0)
        if columns.size
        else 0
        for i in range(len(rows))
    ]
    expected = np.where(right_and_empty, 1.0, per_row).mean()
    for name in (base, f"{base}_samples"):
        assert value_of(label_metrics.measured(name, sets(rows), "multilabel", None)) == near(expected)


@QUICK
@given(several)
def test_multilabel_accuracy_and_hamming_equal_scikit_learns_but_for_failures_on_empty_targets(rows):
    y_true, y_pred, _ = indicators(rows)
    failed_empty = np.array([not target and said is None for target, said in rows])
    right = np.array([sk.accuracy_score(y_true[[i]], y_pred[[i]]) for i in range(len(rows))])
    loss = np.array([sk.hamming_loss(y_true[[i]], y_pred[[i]]) for i in range(len(rows))])
    measured = {
        name: value_of(label_metrics.measured(name, sets(rows), "multilabel", None)) for name in ("accuracy", "hamming")
    }
    assert measured["accuracy"] == near(np.where(failed_empty, 0, right).mean())
    assert measured["hamming"] == near(np.where(failed_empty, 1, loss).mean())
    if not failed_empty.any():
        assert measured["accuracy"] == near(sk.accuracy_score(y_true, y_pred))


def test_a_failure_on_an_empty_target_is_a_miss_and_a_real_empty_answer_is_right():
    rows = sets([((), None), ((), ())])
    for name in ("accuracy", "jaccard", "f1_samples"):
        assert value_of(label_metrics.measured(name, rows, "multilabel", None)) == 0.5


def test_a_label_that_the_task_does_not_have_makes_a_set_wrong_but_counts_for_no_label():
    rows = sets([(("a",), ("a", "of nobody")), ((), ("of nobody",)), (("a",), ("a",))])
    assert value_of(label_metrics.measured("accuracy", rows, "multilabel", None)) == 1 / 3
    assert value_of(label_metrics.measured("jaccard", rows, "multilabel", None)) == near(2 / 3)
    assert value_of(label_metrics.measured("precision_micro", rows, "multilabel", None)) == 1


# ---------------------------------------------------------------- probabilities


def forecasts(draw_probs, n, columns, seed):
    rng = np.random.default_rng(seed)
    probs = np.round(
        rng.dirichlet(np.ones(columns), size=n) if draw_probs == "classes" else rng.random((n, columns)), 2
    )
    if draw_probs == "classes":
        probs /= probs.sum(axis=1, keepdims=True)
    return rng, probs


def with_probs(rows, probs, labels, method="log_likelihood"):
    given_probs = [None if rows.failed[i] else dict(zip(labels, p, strict=True)) for i, p in enumerate(probs)]
    return probability.forecast(rows, probability.given([(given, method, None) for given in given_probs], rows.labels))


@pytest.mark.parametrize("seed", range(30))
@pytest.mark.parametrize("columns", [3, 5])
def test_classification_auc_equals_scikit_learns_with_failures_worst_for_their_target(columns, seed):
    labels = LABELS[:columns]
    rng, probs = forecasts("classes", 60, columns, seed)
    target = rng.integers(columns, size=60)
    failed = rng.random(60) < 0.15
    rows = arrays(
        [(labels[t],) for t in target],
        [None if f else (labels[p.argmax()],) for f, p in zip(failed, probs, strict=True)],
        labels,
    )
    onehot = np.eye(columns, dtype=int)[target]
    scores = np.where(failed[:, None], np.where(onehot == 1, -1.0, 1 / (columns - 1)), probs)
    said = with_probs(rows, probs, labels)
    for average in ("macro", "weighted", "micro"):
        found = probability.measured(f"roc_auc_{average}", rows, said, "classification", None)
        assert value_of(found) == near(sk.roc_auc_score(onehot, scores, average=average))
        found = probability.measured(f"pr_auc_{average}", rows, said, "classification", None)
        assert value_of(found) == near(sk.average_precision_score(onehot, scores, average=average))
    assert value_of(probability.measured("roc_auc", rows, said, "classification", None)) == near(
        sk.roc_auc_score(onehot, scores, average="macro")
    )
    positive = probability.measured("roc_auc", rows, said, "classification", "b")
    assert value_of(positive) == near(sk.roc_auc_score(onehot[:, 1], scores[:, 1]))
    assert positive.interval(None, 0).value == near(sk.roc_auc_score(onehot[:, 1], scores[:, 1]))
    assert probability.label_auc(rows, said, "classification")[1] == near(sk.roc_auc_score(onehot[:, 1], scores[:, 1]))


@pytest.mark.parametrize("seed", range(10))
def test_without_failures_macro_auc_is_scikit_learns_multi_class_ovr(seed):
    rng, probs = forecasts("classes", 50, 3, seed)
    target = rng.integers(3, size=50)
    rows = arrays([(LABELS[t],) for t in target], [(LABELS[p.argmax()],) for p in probs], LABELS[:3])
    found = probability.measured("roc_auc", rows, with_probs(rows, probs, LABELS[:3]), "classification", None)
    assert value_of(found) == near(sk.roc_auc_score(target, probs, multi_class="ovr", average="macro"))


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("positive", [None, "no", "yes"])
def test_two_classes_have_one_auc_whichever_is_positive(seed, positive):
    labels = ("no", "yes")
    rng, probs = forecasts("classes", 40, 2, seed)
    target, failed = rng.integers(2, size=40), rng.random(40) < 0.2
    rows = arrays(
        [(labels[t],) for t in target],
        [None if f else (labels[p.argmax()],) for f, p in zip(failed, probs, strict=True)],
        labels,
    )
    scores = np.where(failed, np.where(target == 1, -1.0, 2.0), probs[:, 1])
    found = probability.measured("roc_auc", rows, with_probs(rows, probs, labels), "classification", positive)
    assert value_of(found) == near(sk.roc_auc_score(target, scores))
    assert found.interval(None, 0).method in ("delong_newcombe", "newcombe")


@pytest.mark.parametrize("seed", range(20))
def test_multilabel_auc_equals_scikit_learns_and_leaves_out_columns_without_both_sides(seed):
    rng, probs = forecasts("sets", 40, 5, seed)
    member = rng.random((40, 5)) < 0.4
    member[:, 3], member[:, 4] = False, True
    failed = rng.random(40) < 0.15
    names = [tuple(label for label, has in zip(LABELS, row, strict=True) if has) for row in member]
    rows = arrays(names, [None if f else () for f in failed], LABELS)
    scores = np.where(failed[:, None], np.where(member, -1.0, 2.0), probs)
    said = with_probs(rows, probs, LABELS, "p_yes")
    for average in ("macro", "weighted"):
        found = probability.measured(f"roc_auc_{average}", rows, said, "multilabel", None)
        assert value_of(found) == near(sk.roc_auc_score(member[:, :3], scores[:, :3], average=average))
        reason = found.interval(None, 0).reason
        assert "'d' (no row has it)" in reason and "'e' (every row has it)" in reason
    micro = probability.measured("roc_auc_micro", rows, said, "multilabel", None)
    kept = [0, 1, 2, 4]
    assert value_of(micro) == near(sk.roc_auc_score(member[:, kept], scores[:, kept], average="micro"))


@pytest.mark.parametrize("seed", range(10))
def test_brier_equals_scikit_learns_and_a_failure_is_wholly_wrong(seed):
    rng, probs = forecasts("classes", 30, 3, seed)
    target = rng.integers(3, size=30)
    rows = arrays([(LABELS[t],) for t in target], [(LABELS[p.argmax()],) for p in probs], LABELS[:3])
    found = probability.measured("brier", rows, with_probs(rows, probs, LABELS[:3]), "classification", None)
    expected = sk.brier_score_loss(target, probs, labels=[0, 1, 2], scale_by_half=True)
    assert value_of(found) == near(expected)
    member = rng.random((30, 3)) < 0.5
    free = rng.random((30, 3))
    names = [tuple(label for label, has in zip(LABELS, row, strict=False) if has) for row in member]
    rows = arrays(names, [()] * 30, LABELS[:3])
    found = probability.measured("brier", rows, with_probs(rows, free, LABELS[:3], "p_yes"), "multilabel", None)
    assert value_of(found) == near(
        np.mean([sk.brier_score_loss(member[:, i], free[:, i], labels=[0, 1]) for i in range(3)])
    )
    all_failed = arrays([("a",)] * 4, [None] * 4, LABELS[:3])
    said = probability.forecast(all_failed, probability.given([(None, None, None)] * 4, all_failed.labels))
    assert value_of(probability.measured("brier", all_failed, said, "classification", None)) == 1
    assert value_of(probability.measured("ece", all_failed, said, "classification", None)) == 1


@pytest.mark.parametrize("seed", range(10))
def test_calibration_error_equals_its_definition(seed):
    rng, probs = forecasts("classes", 80, 4, seed)
    target = rng.integers(4, size=80)
    rows = arrays([(LABELS[t],) for t in target], [(LABELS[p.argmax()],) for p in probs], LABELS[:4])
    found = probability.measured("ece", rows, with_probs(rows, probs, LABELS[:4]), "classification", None)
    confidence, right = probs.max(axis=1), probs.argmax(axis=1) == target
    expected = 0.0
    edges = np.linspace(0, 1, 16)
    for low, high in zip(edges, edges[1:], strict=False):
        inside = (confidence > low) & (confidence <= high)
        if inside.any():
            expected += inside.mean() * abs(right[inside].mean() - confidence[inside].mean())
    assert value_of(found) == pytest.approx(expected, abs=1e-12)


def test_rows_without_probabilities_are_hard_and_the_weakest_method_is_named():
    rows = arrays([("a",), ("b",), ("a",)], [("a",), ("b",), None], ("a", "b"))

    def forecast(*said):
        return probability.forecast(rows, probability.given(said, rows.labels))

    said = forecast(({"a": 0.7, "b": 0.3}, "log_likelihood", None), *[(None, None, None)] * 2)
    assert said.method == "hard"
    assert said.probs.tolist() == [[0.7, 0.3], [0, 1], [0, 0]]
    assert forecast(({"a": 1.0}, "vote", None), ({"b": 1.0}, "top_logprobs", None), (None,) * 3).method == "vote"


# ---------------------------------------------------------------- text


def scores(name, said, wanted, normalizers=("strip", "collapse_spaces"), **options):
    return text.row_scores(MetricSpec(name=name, options=options), [said], [example(wanted)], normalizers)[0]


def example(target):
    return Example(id="e", input="", target=target, row={})


def test_exact_match_compares_after_the_stated_normalisation_only():
    assert scores("exact_match", " x  y\n", "x y") == 1
    assert scores("exact_match", "X y", "x y") == 0
    assert (
        scores("exact_match", "The X, y!", "x y", ("articles", "lower", "punctuation", "strip", "collapse_spaces")) == 1
    )
    assert scores("exact_match", " x", "x", ()) == 0


@QUICK
@given(
    st.text(), st.lists(st.sampled_from(["strip", "collapse_spaces", "lower", "punctuation", "articles"]), unique=True)
)
def test_normalising_does_not_depend_on_the_order_listed(value, normalizers):
    assert text.normalize(value, normalizers) == text.normalize(value, normalizers[::-1])


def test_contains_and_regex_and_a_missing_answer():
    assert scores("contains", "it is x + 1 .", "x + 1") == 1
    assert scores("contains", "it is X", "x") == 0
    assert scores("contains", "it is X", "x", ignore_case=True) == 1
    assert scores("regex", "abc", "whatever", pattern="^a.c$") == 1
    assert scores("regex", "xabc", "whatever", pattern="^a.c$") == 0
    for name in ("exact_match", "contains", "token_f1", "numeric"):
        assert scores(name, None, "") == 0


@pytest.mark.parametrize(
    ("said", "wanted", "right"),
    [
        ("The answer is $1,234.50.", "1234.5", 1),
        ("3 + 4 = 7 apples", "reasoning 3 + 4\n#### 7", 1),
        ("#### 12\n", "12", 1),
        ("It is -5", "5", 0),
        ("5-3=2, so 10-3", "3", 1),
        ("1e3", "1000", 1),
        ("none", "3", 0),
        ("0.30000000000000004", "0.3", 1),
        ("41", "42", 0),
        ("9" * 5000, "1", 0),
    ],
)
def test_numeric_compares_the_last_number(said, wanted, right):
    assert scores("numeric", said, wanted) == right


def test_numeric_tolerance_is_in_the_targets_unit():
    assert scores("numeric", "41.4", "42", tolerance=0.6) == 1
    assert scores("numeric", "41.3", "42", tolerance=0.6) == 0


@QUICK
@given(st.text("ab c", max_size=20), st.text("ab c", max_size=20))
def test_token_f1_is_the_f1_of_two_bags_of_tokens(said, wanted):
    a, b = said.split(), wanted.split()
    shared = sum(min(a.count(token), b.count(token)) for token in set(a))
    if a and b and shared:
        precision, recall = shared / len(a), shared / len(b)
        assert scores("token_f1", said, wanted) == near(2 * precision * recall / (precision + recall))
    else:
        assert scores("token_f1", said, wanted) == float(a == b)


def test_json_schema_takes_json_alone_or_in_one_fence():
    schema = {"type": "object", "required": ["n"], "properties": {"n": {"type": "integer"}}}
    assert scores("json_schema", '{"n": 1}', "", schema=schema) == 1
    assert scores("json_schema", '```json\n{"n": 1}\n```', "", schema=schema) == 1
    for wrong in ('{"n": "1"}', "{}", "n: 1", "[" * 100_000, ""):
        assert scores("json_schema", wrong, "", schema=schema) == 0


def test_json_schema_fetches_nothing_from_the_network():
    asked = []

    class Schemas(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Schemas) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        with warnings.catch_warnings(), pytest.raises(UserError, match="schema"):
            warnings.simplefilter("ignore")
            scores("json_schema", "{}", "", schema={"$ref": f"http://127.0.0.1:{server.server_port}/s.json"})
        server.shutdown()
        thread.join()
    assert asked == []


@pytest.mark.slow
@settings(max_examples=5, deadline=None)
@given(
    st.lists(
        st.text(st.characters(categories=["L", "Zs"]), min_size=1, max_size=30).filter(str.strip),
        min_size=1,
        max_size=5,
    )
)
def test_bleu_chrf_and_rouge_are_1_for_the_target_itself_and_0_for_a_failure(targets):
    for name in ("bleu", "chrf", "rouge"):
        found = text.row_scores(MetricSpec(name=name), [*targets, None], [example(t) for t in [*targets, "x"]], ())
        assert found[:-1] == pytest.approx(np.ones(len(targets))), name
        assert found[-1] == 0


@pytest.mark.slow
def test_bleu_and_chrf_and_rouge_equal_their_packages():
    import sacrebleu
    from rouge_score.rouge_scorer import RougeScorer

    said, wanted = "the cat sat on a mat today", "a cat sat on the mat"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert scores("bleu", said, wanted) == near(sacrebleu.sentence_bleu(said, [wanted]).score / 100)
    assert scores("chrf", said, wanted) == near(sacrebleu.sentence_chrf(said, [wanted]).score / 100)
    assert scores("rouge", said, wanted) == near(RougeScorer(["rougeL"]).score(wanted, said)["rougeL"].fmeasure)
    assert 0 < scores("rouge", "나는 학교에 간다", "나는 집에 간다") < 1


# ---------------------------------------------------------------- names


@pytest.mark.parametrize("task_type", ["classification", "multilabel", "generation"])
def test_defaults_are_available_and_every_name_has_an_average_it_means(task_type):
    assert set(metrics.defaults(task_type)) <= set(metrics.available(task_type))
    assert metrics.check([MetricSpec(name=name) for name in metrics.defaults(task_type)], task_type, LABELS, None) == []


def test_bare_names_mean_what_the_design_says():
    assert metrics.averaging("f1", "classification", LABELS, None) == ("f1", "macro")
    assert metrics.averaging("f1", "multilabel", LABELS, None) == ("f1", "samples")
    assert metrics.averaging("f1", "multilabel", LABELS, "a") == ("f1", "positive")
    assert metrics.averaging("roc_auc", "classification", LABELS, None) == ("roc_auc", "macro")
    assert metrics.averaging("roc_auc", "classification", ("a", "b"), None) == ("roc_auc", "binary")
    assert metrics.averaging("roc_auc", "multilabel", ("a", "b"), None) == ("roc_auc", "macro")
    assert metrics.averaging("balanced_accuracy", "classification", LABELS, "a") == ("recall", "macro")


@pytest.mark.parametrize(
    ("spec", "task_type", "said"),
    [
        ("f1_macr", "classification", "did you mean 'f1_macro'?"),
        ("f1_samples", "classification", "metric of multilabel tasks"),
        ("accuracy", "generation", "metric of classification tasks"),
        ("judge", "classification", "metric of generation tasks"),
        ({"judge": {"pairwise": 1}}, "generation", "true or false"),
        ("regex", "generation", "needs a pattern"),
        ({"regex": {"pattern": "("}}, "generation", "not a regular expression"),
        ({"regex": {"patern": "a"}}, "generation", "did you mean 'pattern'?"),
        ({"json_schema": {"schema": {"type": "objekt"}}}, "generation", "not a JSON schema"),
        ({"numeric": {"tolerance": -1}}, "generation", "at least 0"),
        ({"contains": {"ignore_case": "yes"}}, "generation", "true or false"),
        ({"accuracy": {"x": 1}}, "classification", "it takes none"),
    ],
)
def test_a_metric_that_cannot_be_is_a_fault_that_names_the_remedy(spec, task_type, said):
    (fault,) = metrics.check([MetricSpec.model_validate(spec)], task_type, LABELS, None)
    assert said in fault and fault.startswith("task.metrics: ")


def test_faults_of_positive_and_of_thresholds():
    assert "not one of the labels" in metrics.check([], "classification", LABELS, "z")[0]
    assert metrics.check([], "classification", LABELS, "a") == []
    specs = [MetricSpec(name="regex", options={"pattern": "a"})]
    assert metrics.check_thresholds(["regex", "cost_per_query", "latency_p95"], specs, "generation") == []
    (fault,) = metrics.check_thresholds(["latency_p59"], specs, "generation")
    assert "did you mean 'latency_p50'?" in fault or "did you mean 'latency_p95'?" in fault


@pytest.mark.parametrize("found", [7, 44, 48])
def test_recall_of_the_positive_label_has_the_exact_interval_of_its_own_rows(found):
    """Errors on other rows are no news of it: a bootstrap over all rows once gave 7 of 7 an interval of no width."""
    positives = max(found, 7) if found == 7 else 48
    said = [("a",)] * found + [("b",)] * (positives - found) + [("a",)] * 33 + [("b",)] * 20
    targets = [("a",)] * positives + [("b",)] * 53
    rows = label_metrics.arrays(targets, said, ["a", "b"])
    interval = label_metrics.measured("recall", rows, "classification", "a").interval(None, 0)
    exact = binomtest(found, positives).proportion_ci(0.95, method="exact")
    assert interval.n == positives and interval.ends(0.025) == pytest.approx((exact.low, exact.high))


def test_f1_of_the_positive_label_is_bounded_by_the_rows_that_concern_it():
    rows = label_metrics.arrays([("a",)] * 5 + [("b",)] * 200, [("a",)] * 5 + [("b",)] * 200, ["a", "b"])
    low, high = label_metrics.measured("f1", rows, "classification", "a").interval(None, 0).ends(0.025)
    jaccard = binomtest(5, 5).proportion_ci(0.95, method="exact").low
    assert (low, high) == (pytest.approx(2 * jaccard / (1 + jaccard)), 1.0)
