// SPDX-License-Identifier: Apache-2.0
//! A registry of our own: one file, or in memory.
