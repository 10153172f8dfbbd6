//! Our ends against other people's.

mod ipmi;
mod switch;
