//! A version of Curfew, ready to be deployed: the images of a source tree and its manifests.

use anyhow::Result;

use crate::{
    deploy::{self, Way},
    images::{self, Image},
    layout::Checkout,
};

/// A version whose images are built.
#[derive(Clone, Debug)]
pub struct Release {
    source: Checkout,
    images: Vec<Image>,
    way: Way,
}

impl Release {
    /// Builds the images of a source tree, which may be of another version than this program.
    pub fn build(source: &Checkout) -> Result<Self> {
        Ok(Self {
            source: source.clone(),
            images: images::build_curfew_images(source)?,
            way: Way::default(),
        })
    }

    /// The same, deployed in this way.
    #[must_use]
    pub fn by(mut self, way: Way) -> Self {
        self.way = way;
        self
    }

    /// Brings the images to the nodes, applies the manifests, and waits until Curfew guards the cluster. The caller
    /// holds the [`Lock`](crate::state::Lock).
    pub fn deploy(&self) -> Result<()> {
        images::import(&self.images)?;
        deploy::ensure(&self.source, &self.images, self.way)
    }
}
