//! What an object does not survive, and what goes along with what went.

use super::{Field, Surgery};
use crate::engine::redact::plan::Cause;
use crate::engine::redact::{envelope, patch};
use crate::engine::tree::Node;

impl Surgery<'_, '_, '_> {
    /// What an object does not survive, and what goes along, now that its members are settled.
    pub(super) fn aftermath(&mut self, node: Node, fields: &mut [Field<'_>]) -> Result<(), Cause> {
        if self.plan.reduced || fields.iter().any(|field| field.gone.is_some()) {
            self.bereave(node, fields)?;
        }
        if node == self.tree.root() {
            envelope::settle(self, fields)?;
            patch::root(self, fields);
        }
        Ok(())
    }

    /// Something went in this object: what else must?
    fn bereave(&mut self, node: Node, fields: &mut [Field<'_>]) -> Result<(), Cause> {
        let at = self.path_of(node);
        let lost = fields.iter().find_map(|field| field.gone.filter(|cause| !cause.tidy));
        let lost_one = |names: &[&str]| {
            let named = fields.iter().find(|field| field.gone.is_some() && names.contains(&&*field.name));
            named.and_then(|field| field.gone)
        };
        match (at.kind(), at.path()) {
            ("Extension", "") => {
                let value = fields.iter().find(|field| field.name.starts_with("value") || field.name == "extension");
                if let Some(cause) = value.and_then(|field| field.gone) {
                    return Err(cause);
                }
            }
            ("Bundle", "entry") => lost_one(&["resource"]).map_or(Ok(()), Err)?,
            ("Parameters", "parameter" | "parameter.part") => lost.map_or(Ok(()), Err)?,
            ("Composition", "section") => self.section(fields)?,
            ("Group", "") if fields.iter().any(|field| field.name == "member") && self.plan.reduced => {
                self.drop_text(fields, "quantity");
            }
            _ => {}
        }
        Ok(())
    }

    /// A section that lost something loses its narrative, and goes when it has nothing left to show (cmp-1).
    fn section(&mut self, fields: &mut [Field<'_>]) -> Result<(), Cause> {
        if !self.plan.reduced {
            return Ok(());
        }
        self.drop_text(fields, "text");
        let shows = |field: &Field<'_>| field.gone.is_none() && matches!(&*field.name, "entry" | "section");
        if fields.iter().any(shows) {
            return Ok(());
        }
        fields.iter().find_map(|field| field.gone).map_or(Ok(()), Err)
    }

    /// Takes out a member that may repeat what went.
    pub(in crate::engine::redact) fn drop_text(&mut self, fields: &mut [Field], name: &str) {
        for field in fields.iter_mut().filter(|field| field.name == name && field.gone.is_none()) {
            self.remove(field, Cause::text());
        }
    }
}
