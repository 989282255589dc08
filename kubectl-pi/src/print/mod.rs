//! How what was found looks: tables, pages, and the formats of `-o`.
//!
//! It owns no state and does no I/O. What reaches the terminal goes through [`crate::output`].

pub(crate) mod custom_columns;
pub(crate) mod format;
pub(crate) mod jsonpath;
pub(crate) mod page;
pub(crate) mod row;
pub(crate) mod style;
pub(crate) mod table;
pub(crate) mod yaml;
