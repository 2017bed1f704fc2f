// SPDX-License-Identifier: Apache-2.0
//! A client of the Confluent REST interface, which Apicurio, Karapace and Redpanda speak as well.
