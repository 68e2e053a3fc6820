"""More training rows, made of train rows: never of a test or dev row.

New inputs come from `recombine` (pieces of train inputs), `paraphrase` (rules) and `self_instruct` (a teacher invents
them); the teacher, or a rule that keeps it, gives the target. Then a row must be usable (`validation`), new
(`deduplication`, with `embedding`) and in neither test nor dev (`contamination`). `drafts` holds the records and turns a
draft into an example; `data_card` writes down what was made from what. Pure functions: asking a teacher, its bill and
the run folder are the caller's.
"""
