//! As much of a browser as a sign-in needs: redirects, cookies by host, forms.

use std::collections::{BTreeMap, HashMap};

use fhirwall::demo::client::{HttpsClient, Reply};
use http::{Method, StatusCode, Uri};

/// What the person at the browser does on a form.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Person<'a> {
    /// Signs in as.
    pub(crate) login: &'a str,
    /// Whose record is chosen, where there is a choice.
    pub(crate) patient: Option<&'a str>,
    /// The consent line that is unticked, by its words.
    pub(crate) unticks: Option<&'a str>,
}

pub(crate) struct Browser {
    client: HttpsClient,
    cookies: HashMap<String, BTreeMap<String, String>>,
}

impl Browser {
    pub(crate) fn new(client: HttpsClient) -> Self {
        Self { client, cookies: HashMap::new() }
    }

    /// From `start` through every page until the browser is sent to an address that begins with `until`: gives that
    /// address, and the consent page if one was shown.
    pub(crate) async fn sign_in(&mut self, start: &str, person: Person<'_>, until: &str) -> (String, String) {
        let (mut url, mut consent) = (start.to_owned(), String::new());
        let mut reply = self.send(Method::GET, &url, String::new()).await;
        for _ in 0..25 {
            if reply.status.is_redirection() {
                url = absolute(&url, reply.header("location"));
                if url.starts_with(until) {
                    return (url, consent);
                }
                reply = self.send(Method::GET, &url, String::new()).await;
                continue;
            }
            assert_eq!(reply.status, StatusCode::OK, "{url}: {}", reply.text());
            let page = reply.text();
            if page.contains("name=\"question\"") {
                consent.clone_from(&page);
            }
            let (action, form) = answer(&page, person).unwrap_or_else(|| panic!("no form at {url}: {page}"));
            url = absolute(&url, &action);
            reply = self.send(Method::POST, &url, form).await;
        }
        panic!("the sign-in does not end");
    }

    pub(crate) async fn get(&mut self, url: &str) -> Reply {
        self.send(Method::GET, url, String::new()).await
    }

    async fn send(&mut self, method: Method, url: &str, form: String) -> Reply {
        let host = url.parse::<Uri>().unwrap().host().unwrap().to_owned();
        let jar = self.cookies.entry(host).or_default();
        let cookie = jar.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join("; ");
        let mut headers = vec![("accept", "text/html")];
        if !cookie.is_empty() {
            headers.push(("cookie", &cookie));
        }
        if method == Method::POST {
            headers.push(("content-type", "application/x-www-form-urlencoded"));
        }
        let reply = self.client.send(method, url, &headers, form).await.expect("an answer");
        for set in reply.headers.get_all("set-cookie") {
            let pair = set.to_str().unwrap().split(';').next().unwrap();
            let (name, value) = pair.split_once('=').unwrap();
            if value.is_empty() {
                jar.remove(name);
            } else {
                jar.insert(name.to_owned(), value.to_owned());
            }
        }
        reply
    }
}

fn absolute(from: &str, target: &str) -> String {
    url::Url::parse(from).unwrap().join(target).unwrap().into()
}

/// The page's form as this person sends it off: its address and its content.
fn answer(page: &str, person: Person<'_>) -> Option<(String, String)> {
    let form = page.split_once("<form")?.1;
    let action = attribute(form.split_once('>')?.0, "action")?;
    let mut fields = url::form_urlencoded::Serializer::new(String::new());
    for part in form.split("<input").skip(1) {
        let (tag, after) = part.split_once('>')?;
        let Some(name) = attribute(tag, "name") else { continue };
        let value = attribute(tag, "value").unwrap_or_default();
        let words = after.split('<').next().unwrap_or_default();
        match (name.as_str(), attribute(tag, "type").as_deref()) {
            ("login", _) => drop(fields.append_pair("login", person.login)),
            ("username", _) => drop(fields.append_pair("username", person.login)),
            ("password", _) => drop(fields.append_pair("password", "x")),
            (_, Some("checkbox")) if person.unticks.is_some_and(|unticked| words.contains(unticked)) => {}
            (_, Some("radio")) if person.patient != Some(value.as_str()) => {}
            (name, _) => drop(fields.append_pair(name, &value)),
        }
    }
    if form.contains("name=\"answer\"") {
        fields.append_pair("answer", "allow");
    }
    Some((action, fields.finish()))
}

fn attribute(tag: &str, name: &str) -> Option<String> {
    let value = tag.split_once(&format!(" {name}=\""))?.1;
    Some(value.split('"').next()?.replace("&amp;", "&"))
}
