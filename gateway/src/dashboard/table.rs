//! A table that stays one for assistive technology when a narrow window shows its rows as cards.

use maud::{Markup, html};

/// A table of `columns`; the first cell of a row is its heading. The roles are said because a style that turns rows into
/// blocks takes them away (HTML-AAM leaves it to the browser).
pub(super) fn table(label: &str, columns: &[&str], rows: &[Vec<Markup>]) -> Markup {
    html! {
        div.scroll tabindex="0" role="region" aria-label=(format!("Table: {label}")) {
            table role="table" {
                thead role="rowgroup" { tr role="row" { @for column in columns { th scope="col" role="columnheader" { (column) } } } }
                tbody role="rowgroup" { @for row in rows { tr role="row" {
                    @for (index, (cell, column)) in row.iter().zip(columns).enumerate() {
                        @if index == 0 { th scope="row" role="rowheader" { div { (cell) } } }
                        @else { td role="cell" data-label=(column) { div { (cell) } } }
                    }
                } } }
            }
        }
    }
}
