//! Small changes to a YAML file that leave the rest, comments included, as its owner wrote it.

/// The file with its top-level `key` set to `value` (one line of YAML). A missing key is added after `after`, or at the end.
///
/// `None` when the file is not written in the way that allows this: top-level keys at the start of lines.
pub fn set_top_level(text: &str, key: &str, value: &str, after: &str) -> Option<String> {
    let lines: Vec<&str> = text.lines().collect();
    let line = format!("{key}: {value}");
    let (start, end) = match place(&lines, key) {
        Some(place) => place,
        None => {
            let end = place(&lines, after).map_or(lines.len(), |(_, end)| end);
            (end, end)
        }
    };
    // A flow mapping over the whole file has no top-level lines to speak of.
    place(&lines, "client_id")?;
    let mut out: Vec<&str> = lines.get(..start)?.to_vec();
    out.push(&line);
    out.extend(lines.get(end..)?);
    Some(out.join("\n") + "\n")
}

/// The lines that a top-level key takes: its own, and those below that are indented or list items of it.
fn place(lines: &[&str], key: &str) -> Option<(usize, usize)> {
    let is_key = |line: &&str| line.strip_prefix(key).is_some_and(|rest| rest.starts_with(':'));
    let start = lines.iter().position(is_key)?;
    let belongs = |line: &&&str| line.starts_with([' ', '\t']) || line.starts_with("- ") || **line == "-";
    let more = lines.get(start + 1..)?.iter().take_while(belongs).count();
    Some((start, start + 1 + more))
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "# ours\nclient_id: a # the app\nstatus: active   # since May\ncertificates:\n  - san_dns: a.example\n- {sha256: x}\n# below\nname: A\n";

    #[test]
    fn a_value_is_replaced_and_the_rest_stays() {
        let changed = set_top_level(FILE, "status", "suspended", "client_id").unwrap();
        assert_eq!(changed, FILE.replace("status: active   # since May", "status: suspended"));
    }

    #[test]
    fn a_block_is_replaced_whole() {
        let changed = set_top_level(FILE, "certificates", "[{san_dns: b.example}]", "client_id").unwrap();
        assert_eq!(
            changed,
            FILE.replace(
                "certificates:\n  - san_dns: a.example\n- {sha256: x}",
                "certificates: [{san_dns: b.example}]"
            )
        );
    }

    #[test]
    fn a_missing_key_is_added_after_its_neighbour() {
        let changed = set_top_level("client_id: a\nname: A\n", "status", "suspended", "client_id").unwrap();
        assert_eq!(changed, "client_id: a\nstatus: suspended\nname: A\n");
        let changed = set_top_level("client_id: a\n", "status", "suspended", "kind").unwrap();
        assert_eq!(changed, "client_id: a\nstatus: suspended\n");
    }

    #[test]
    fn a_key_of_the_same_beginning_is_another() {
        let text = "client_id: a\nstatus_note: x\nnested:\n  status: y\n";
        let changed = set_top_level(text, "status", "suspended", "client_id").unwrap();
        assert_eq!(changed, "client_id: a\nstatus: suspended\nstatus_note: x\nnested:\n  status: y\n");
    }

    #[test]
    fn a_file_without_top_level_lines_is_left_alone() {
        assert_eq!(set_top_level("{client_id: a, status: active}\n", "status", "suspended", "client_id"), None);
    }
}
