//! Who the parts are to each other, and that nobody else can be.

mod endpoints;
mod requests;
