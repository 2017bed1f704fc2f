// SPDX-License-Identifier: Apache-2.0
//! Connection addresses of databases.

/// `scheme://user:password@127.0.0.1:port/database`, its parts escaped; an empty password is left out.
pub(crate) fn of_database(scheme: &str, (user, password): (&str, &str), port: u16, database: &str) -> String {
    let secret = if password.is_empty() {
        String::new()
    } else {
        format!(":{}", percent_encoded(password))
    };
    let (user, database) = (percent_encoded(user), percent_encoded(database));
    format!("{scheme}://{user}{secret}@127.0.0.1:{port}/{database}")
}

fn percent_encoded(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => char::from(byte).to_string(),
            other => format!("%{other:02X}"),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_escaped_and_an_empty_password_is_left_out() {
        let address = of_database("mysql", ("a@b", "p:/"), 3306, "d b");
        assert_eq!(address, "mysql://a%40b:p%3A%2F@127.0.0.1:3306/d%20b");
        let trusted = of_database("postgres", ("root", ""), 5432, "");
        assert_eq!(trusted, "postgres://root@127.0.0.1:5432/");
    }
}
