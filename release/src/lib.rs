//! Makes the artifacts of a release, from a commit and a version.
//!
//! Everything is made of an [export of the commit](source), never of the working tree, and two runs make the same
//! bytes: paths are remapped, and every time is the time of the commit. Rooms:
//!
//! - [`version`]: where the version stands in the source tree;
//! - [`source`]: the exported commit;
//! - [`platform`]: what is built for which machines, with which compilers;
//! - [`binaries`]: Curfew's programs;
//! - [`archive`]: archives and checksums;
//! - [`image`]: the images, each for all platforms;
//! - [`plugin`]: archives of the plugin and the manifest for Krew;
//! - [`manifests`]: the chart, and the manifests in one file;
//! - [`sbom`]: what the programs are made of;
//! - [`trial`]: runs what was built;
//! - [`cli`]: the commands.
#![warn(missing_docs)]

pub mod archive;
pub mod binaries;
pub mod cli;
pub mod image;
pub mod manifests;
pub mod platform;
pub mod plugin;
pub mod sbom;
pub mod source;
pub mod trial;
pub mod version;
