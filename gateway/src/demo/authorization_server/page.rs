//! The page on which a visitor picks who to be.

use maud::{DOCTYPE, Markup, html};

use super::USERS;

/// Lists the users. `request` is carried along unchanged, as hidden fields.
pub(super) fn pick_a_user(client: &str, scope: &str, request: &[(String, String)]) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                title { "Sample sign-in" }
                style { "body{font-family:system-ui;max-width:34rem;margin:4rem auto;line-height:1.5}button{display:block;\
                         width:100%;margin:.5rem 0;padding:.8rem;font-size:1rem;text-align:left}code{word-break:break-all}" }
            }
            body {
                h1 { "Sample sign-in" }
                p { strong { (client) } " asks for " code { (scope) } }
                form method="post" action="/authorize" {
                    @for (name, value) in request {
                        input type="hidden" name=(name) value=(value);
                    }
                    @for user in USERS {
                        button type="submit" name="user" value=(user.login) { "Continue as " (user.name) }
                    }
                }
                p { small { "This is the demo's stand-in for a hospital's identity provider. It asks for no password." } }
            }
        }
    }
}
