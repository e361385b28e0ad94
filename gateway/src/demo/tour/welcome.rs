//! The first and the last page of the demo.

use std::path::Path;

use super::screen::Screen;
use crate::demo::world::Neighbours;

/// Who is here.
pub(crate) fn hello(screen: &mut Screen, world: &Neighbours) {
    screen.line("");
    screen.say(
        "fhirwall demo. Everything runs in this one process, on this machine: a sample EHR with four invented patients, a \
         sample SMART authorization server, three partner apps, and the gateway between them.",
    );
    screen.line("");
    for (what, at) in [
        ("gateway", world.base_url()),
        ("sample EHR", world.ehr.base_url()),
        ("sample issuer", world.issuer.issuer()),
        ("administration", world.admin_url()),
        ("files", shown(world.dir())),
    ] {
        screen.line(&format!("    {what:<16} {at}"));
    }
    screen.line("");
    for app in world.apps() {
        screen.line(&format!("    {:<16} {}", app.profile.client_id, app.profile.who));
    }
}

/// What to try next.
pub(crate) fn invitation(screen: &mut Screen, world: &Neighbours) -> anyhow::Result<()> {
    screen.stop("Your turn");
    screen.say("The demo serves on. Amara Osei's consent is back in force. In another terminal:");
    screen.line("");
    let base = world.base_url();
    for (client_id, target) in [
        ("recovery-path", "Condition?patient=amara-osei"),
        ("recovery-path", "Condition?patient=bruno-vale"),
        ("cohort-lens", "Condition?patient=bruno-vale"),
        ("pocket-chart", "MedicationRequest?patient=amara-osei"),
        ("pocket-chart", "Patient/bruno-vale"),
    ] {
        let options = shown(&world.curl_file(client_id));
        screen.line(&format!("    curl -K {options} '{base}/{target}'"));
    }
    screen.line("");
    screen.say("Each curl file holds an app's certificate, key and token (good for an hour); demo.json has the same for programs.");
    screen.line("");
    screen.line(&format!("    demo.json        {}", shown(&world.dir().join("demo.json"))));
    screen.line(&format!("    configuration    {}", shown(&world.config_file())));
    screen.line(&format!("    administration   {}/", world.admin_url()));
    screen.line("");
    screen.say("Stop with Ctrl-C.");
    Ok(())
}

/// A path as one would type it from here.
fn shown(path: &Path) -> String {
    let here = std::env::current_dir().and_then(|here| here.canonicalize()).unwrap_or_default();
    path.strip_prefix(&here).unwrap_or(path).display().to_string()
}
