// SPDX-License-Identifier: Apache-2.0
//! A server's settings: names and values, the defaults and what a test puts over them.

/// Settings of their own of borrowed ones.
pub(crate) fn owned(settings: &[(&str, &str)]) -> Vec<(String, String)> {
    settings
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect()
}

/// `base` with `over` on top, the later value of a name winning.
pub(crate) fn merged(base: &[(String, String)], over: &[(String, String)]) -> Vec<(String, String)> {
    let mut all: Vec<(String, String)> = Vec::new();
    for (name, value) in base.iter().chain(over) {
        all.retain(|(known, _)| known != name);
        all.push((name.clone(), value.clone()));
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_later_setting_overrides_an_earlier_one() {
        let all = merged(
            &owned(&[("wal_level", "logical"), ("jit", "off")]),
            &owned(&[("wal_level", "replica")]),
        );
        assert_eq!(all, owned(&[("jit", "off"), ("wal_level", "replica")]));
    }
}
