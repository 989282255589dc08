//! Who the parts are to each other, and that nobody else can be.

#[path = "identity/endpoints.rs"]
mod endpoints;
#[path = "identity/requests.rs"]
mod requests;
