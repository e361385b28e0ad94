//! How the client wants the answer shown. Applied by us after the verdict: an EHR that leaves out `meta` or an extension
//! leaves out the labels with it (digest section 5, `_elements`).

use crate::interaction::ParseError;

/// Presentation parameters, taken out of the query. None of them goes upstream but `_count`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Presentation {
    /// `_elements`: top-level element names, as given.
    pub elements: Vec<Box<str>>,
    pub summary: Option<Summary>,
    /// `_count`: the size of a page, never 0.
    pub count: Option<u32>,
    /// `_total` other than `accurate`; a total is only ever given where every row was seen.
    pub total: Option<Total>,
    pub pretty: bool,
    /// `_format` was given (as FHIR JSON, or it would have been refused): `self` links show it.
    pub format: bool,
}

/// R4 search.html#summary. `false` is no summary, `count` is refused: it counts what may be hidden.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Summary {
    True,
    Text,
    Data,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Total {
    None,
    Estimate,
}

/// Takes one parameter if it is one of presentation: `Ok(false)` leaves it to the search.
pub(super) fn take(into: &mut Presentation, name: &str, value: &str) -> Result<bool, ParseError> {
    match name {
        "_elements" => {
            let names = value.split(',').map(|element| legal_element(element).map(Box::from));
            into.elements = names.collect::<Result<_, _>>()?;
        }
        "_summary" => {
            into.summary = match value {
                "true" => Some(Summary::True),
                "text" => Some(Summary::Text),
                "data" => Some(Summary::Data),
                "false" => None,
                "count" => return Err(ParseError::UnsupportedParameter),
                _ => return Err(ParseError::MalformedValue),
            };
        }
        "_count" => {
            let count = value.parse::<u32>().map_err(|_| ParseError::MalformedValue)?;
            // R4 search.html#count: 0 is `_summary=count`.
            into.count = Some(if count == 0 { return Err(ParseError::UnsupportedParameter) } else { count });
        }
        "_total" => {
            into.total = match value {
                "none" => Some(Total::None),
                "estimate" => Some(Total::Estimate),
                "accurate" => return Err(ParseError::UnsupportedParameter),
                _ => return Err(ParseError::MalformedValue),
            };
        }
        "_format" => {
            crate::interaction::format_parameter(value)?;
            into.format = true;
        }
        "_pretty" => {
            into.pretty = match value {
                "true" => true,
                "false" => false,
                _ => return Err(ParseError::MalformedValue),
            };
        }
        _ => return Ok(false),
    }
    Ok(true)
}

/// `name`, or `Type.name`: R4 names base elements only.
fn legal_element(element: &str) -> Result<&str, ParseError> {
    let legal = |b: u8| b.is_ascii_alphanumeric() || b == b'.' || b == b'_';
    if element.is_empty() || element.len() > 128 || !element.bytes().all(legal) {
        return Err(ParseError::MalformedValue);
    }
    Ok(element)
}

impl Presentation {
    /// As parameters, for the `self` link and for sealed pages.
    pub(super) fn write(&self, mut add: impl FnMut(&str, &str)) {
        if !self.elements.is_empty() {
            add("_elements", &self.elements.join(","));
        }
        match self.summary {
            Some(Summary::True) => add("_summary", "true"),
            Some(Summary::Text) => add("_summary", "text"),
            Some(Summary::Data) => add("_summary", "data"),
            None => {}
        }
        if let Some(count) = self.count {
            add("_count", &count.to_string());
        }
        match self.total {
            Some(Total::None) => add("_total", "none"),
            Some(Total::Estimate) => add("_total", "estimate"),
            None => {}
        }
        if self.pretty {
            add("_pretty", "true");
        }
        if self.format {
            add("_format", "json");
        }
    }
}
