//! What an object says of the resource it stands in, now that it has ended.

use super::members::Members;
use super::names::Name;
use super::{Role, ScanError, Scanner};
use crate::engine::facts::LabelSource;
use crate::engine::json::{Text, index};
use crate::label::LabelSet;

/// DS4P 1.0.0, with whatever base or version it is written.
const INLINE_LABEL: &str = "/extension-inline-sec-label";

impl Scanner<'_, '_> {
    pub(super) fn note_own_url(&mut self, text: Text) {
        // Escaped slashes are legal and rare: decode only then.
        let own = if text.escaped() {
            self.labeller.below_own_base(&self.cursor.decoded(text)).is_some()
        } else {
            self.labeller.below_own_base(self.cursor.slice(text.span())).is_some()
        };
        if own {
            self.own_urls.push(text.span().start);
        }
    }

    /// An object ended: what it says of the resource it stands in.
    #[inline]
    pub(super) fn leave(&mut self, role: Role, members: &Members) -> Result<(), ScanError> {
        if role == Role::Free {
            return Ok(());
        }
        if let (Some(system), Some(code)) = (members.text(Name::System), members.text(Name::Code)) {
            self.coding = Some((system, code));
            self.coded(role, system, code);
        } else if role == Role::Security {
            self.unknown_label();
        }
        if self.labeller.has_programs()
            && let (Some(system), Some(value)) = (members.text(Name::System), members.text(Name::Value))
            && self.labeller.is_program_identifier(&self.cursor.decoded(system), &self.cursor.decoded(value))
        {
            self.mark_program_record();
        }
        if let Some(reference) = members.text(Name::Reference) {
            let number = self.refers(reference);
            self.candidate(Some(number));
        } else if role == Role::Element && members.names_somebody() {
            self.candidate(None);
        }
        if let Some(url) = members.text(Name::Url) {
            if role == Role::Extension {
                self.extension(url, members.value_coding);
            } else if role == Role::Element {
                self.attachment(url);
            }
        }
        if !members.inline.is_empty() {
            self.labelled_inline(role, members.span.start, members.inline);
        }
        if role != Role::Resource && members.text(Name::ResourceType).is_some() {
            // ExampleScenario.instance.resourceType is an element of that name; its resource settles it.
            let steps = self.path.get(self.path_base..).unwrap_or_default();
            let instance = matches!(steps, [step] if self.cursor.decoded(*step) == "instance");
            match self.site() {
                Some(site) if instance => site.instance_types = true,
                Some(_) | None => return Err(ScanError::MisplacedResource),
            }
        }
        if role == Role::Entry
            && let Some(at) = members.resource
        {
            if let Some(facts) = self.resources.get_mut(index(at)) {
                facts.search_mode = members.mode;
            }
            if let Some(site) = self.sites.get_mut(index(at)) {
                site.full_url = members.text(Name::FullUrl);
                site.entry = Some(members.span);
            }
        }
        Ok(())
    }

    fn extension(&mut self, url: Text, coding: Option<(Text, Text)>) {
        let url = self.cursor.decoded(url);
        let bare = url.split_once('|').map_or(&*url, |(bare, _)| bare);
        if !bare.ends_with(INLINE_LABEL) {
            return;
        }
        let read = coding
            .and_then(|(system, code)| self.labeller.label(&self.cursor.decoded(system), &self.cursor.decoded(code)));
        let labels = read.unwrap_or_else(|| {
            if let Some(facts) = self.facts() {
                facts.unknown_labels += 1;
            }
            self.labeller.unknown()
        });
        self.inline = self.inline.union(labels);
    }

    /// An object with a URL that names an instance of this server is a reference (Attachment.url to a Binary).
    fn attachment(&mut self, url: Text) {
        if self.labeller.names_local_instance(&self.cursor.decoded(url)) {
            self.refers(url);
        }
    }

    /// The element that started there carries labels of its own.
    fn labelled_inline(&mut self, role: Role, start: u32, labels: LabelSet) {
        // On the resource itself, or inside its meta, a label is one of the whole resource.
        if role == Role::Resource || self.in_meta {
            self.label(labels, LabelSource::Inline);
            return;
        }
        self.labelled.push((start, labels));
        if let Some(facts) = self.facts()
            && !facts.inline.contains(&labels)
        {
            facts.inline.push(labels);
        }
    }
}
