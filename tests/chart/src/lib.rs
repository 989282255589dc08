//! Renders Curfew's manifests as people do: the [base and its components](render::kustomize) with kustomize, the
//! [chart](render::helm) with Helm. The tests here compare and [check](schemas) them without a cluster.
#![warn(missing_docs)]

pub mod objects;
pub mod render;
pub mod schemas;
