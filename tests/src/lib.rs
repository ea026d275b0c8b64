//! Whole-workspace tests; they lie in `tests/whole`.
