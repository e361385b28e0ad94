//! Where in a resource something has to be looked at.

use crate::engine::json::{Span, index};
use crate::engine::redact::Redaction;

/// Where in a resource something may have to be done; sorted. Everything else is as it was, and is not looked at.
pub(super) fn of(redaction: &Redaction<'_, '_>, resource: u32, held: &[(Span, u32)]) -> Vec<u32> {
    let document = redaction.document;
    let span = document.sites.get(index(resource)).map(|site| site.span).unwrap_or_default();
    let within = |starts: &[u32]| {
        let from = starts.partition_point(|start| *start < span.start);
        let to = starts.partition_point(|start| *start < span.end);
        starts.get(from..to).unwrap_or_default().to_vec()
    };
    let mut points = Vec::new();
    let labelled_from = document.labelled.partition_point(|(start, _)| *start < span.start);
    let labelled = document.labelled.iter().skip(labelled_from).map(|(start, _)| *start);
    points.extend(labelled.take_while(|start| *start < span.end));
    let uses = document.uses_of(resource).iter();
    points.extend(
        uses.filter(|used| redaction.why_reference_goes(resource, used.reference).is_some()).map(|used| used.at),
    );
    if redaction.options.public_base.is_some() {
        points.extend(within(&document.own_urls));
    }
    points.extend(held.iter().filter(|(_, held)| redaction.is_withheld(*held)).map(|(span, _)| span.start));
    points.sort_unstable();
    points
}

/// The entries of a Bundle in which nothing has to be done: the shape of what stands in them does not matter. The first
/// one is not among them: a document or message is asked what it begins with.
pub(super) fn untouched_entries(redaction: &Redaction<'_, '_>, held: &[(Span, u32)], points: &[u32]) -> Vec<Span> {
    let sites = &redaction.document.sites;
    let entries = held.iter().filter_map(|(_, held)| sites.get(index(*held))?.entry).skip(1);
    let mut ahead = points;
    entries
        .filter(|entry| {
            while let Some((point, rest)) = ahead.split_first()
                && *point < entry.start
            {
                ahead = rest;
            }
            ahead.first().is_none_or(|point| *point >= entry.end)
        })
        .collect()
}
