//! `fhirwall lockdown` stops an app by one command, and says whether it did.
#![expect(clippy::unwrap_used, reason = "tests may stop at the first surprise")]

use std::process::{Command, Output};

use fhirwall::demo::world::World;

fn lockdown(world: &World, args: &[&str]) -> Output {
    let admin = world.admin_url();
    let (verb, rest) = args.split_first().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_fhirwall"));
    command.args(["lockdown", verb, "--admin", &admin]).args(rest);
    command.output().unwrap()
}

fn text(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_app_is_stopped_listed_and_let_in_again_by_command() {
    let dir = tempfile::TempDir::new().unwrap();
    let world = World::start(dir.path(), None).await.unwrap();
    let app = &world.research;
    let url = format!("{}/Patient?_id=amara-osei", world.base_url());
    let status = || async { app.client.get(&url, &app.token).await.unwrap().status.as_u16() };
    assert_eq!(status().await, 200);
    let order = ["set", "--partner", "cohort-lens", "--for", "2h", "--reason", "mass export", "--by", "officer"];
    let set = tokio::task::block_in_place(|| lockdown(&world, &order));
    assert!(set.status.success(), "{set:?}");
    assert_eq!(status().await, 403);
    let listed = tokio::task::block_in_place(|| lockdown(&world, &["list"]));
    assert!(
        text(&listed).contains("app cohort-lens") && text(&listed).contains("by officer: mass export"),
        "{listed:?}"
    );
    let id = text(&listed).split(' ').next().unwrap().to_owned();
    let lift = ["lift", &id, "--reason", "it was announced", "--by", "officer"];
    assert!(tokio::task::block_in_place(|| lockdown(&world, &lift)).status.success());
    assert_eq!(status().await, 200);
    let again = tokio::task::block_in_place(|| lockdown(&world, &lift));
    assert_eq!(again.status.code(), Some(1), "{again:?}");
    let odd = ["set", "--part2", "--for", "soon", "--reason", "x", "--by", "y"];
    assert_eq!(tokio::task::block_in_place(|| lockdown(&world, &odd)).status.code(), Some(2));
    let away = Command::new(env!("CARGO_BIN_EXE_fhirwall"))
        .args(["lockdown", "list", "--admin", "http://127.0.0.1:1"])
        .output()
        .unwrap();
    assert_eq!(away.status.code(), Some(3), "{away:?}");
}
