//! `apply` with a person at a terminal: what is asked, what is answered, and how far long work has come.

use std::time::Duration;

use crate::bed::{Folder, Vhost, on, on_a_terminal, rabbitmq_at, spillway_with, with_rabbitmq};
use crate::between::Between;

fn path(folder: &Folder) -> &str {
    folder.path().to_str().expect("UTF-8")
}

#[test]
fn a_yes_goes_on_and_any_other_answer_changes_nothing() {
    let (vhost, folder) = (Vhost::new("asked"), with_rabbitmq());
    folder.write("a.yaml", &vhost.object("Queue", "orders", ""));
    let typed = |answer: &str| on_a_terminal(&["apply", "-f", path(&folder)], &[], answer);
    for answer in ["no\n", "\n", "yess\n", ""] {
        typed(answer).exits(2).says("Apply this change? [y/N]").says("Nothing was changed.");
        on("plan", &folder, &[]).exits(2).says("1 to create");
    }
    typed("yes\n").exits(0).says("Apply this change? [y/N]").says("Applied: 1 object was changed.");
    on("plan", &folder, &[]).exits(0);
    // Where there is nothing to do, there is nothing to ask.
    let said = typed("").exits(0).says("Plan: 1 in step.");
    assert!(!said.all().contains("[y/N]"), "{}", said.all());
    folder.write("b.yaml", &["x", "y"].map(|name| vhost.object("Queue", name, "")).concat());
    typed("Y\n").exits(0).says("Apply these 2 changes? [y/N]").says("Applied: 2 objects were changed.");
    // An answer that comes through a pipe is nobody's at a terminal.
    folder.write("c.yaml", &vhost.object("Queue", "piped", ""));
    spillway_with(&["apply", "-f", path(&folder)], &[], Some("yes\n")).exits(1).says("use --yes");
    on("plan", &folder, &[]).exits(2).says("1 to create");
}

#[test]
fn long_work_says_how_far_it_has_come_in_place_on_a_terminal_and_else_in_lines() {
    /// Longer than five seconds, one after the other.
    const PAUSE: Duration = Duration::from_millis(120);
    const QUEUES: usize = 50;
    let work = |terminal: bool| {
        let slow = Between::rabbitmq(PAUSE);
        let (vhost, folder) = (Vhost::new("slow"), rabbitmq_at(&format!("http://{}", slow.address())));
        let queue = |n| vhost.object("Queue", &format!("q{n}"), "type: classic");
        folder.write("a.yaml", &(0..QUEUES).map(queue).collect::<String>());
        let apply = ["apply", "-f", path(&folder), "--yes"];
        let said = if terminal { on_a_terminal(&apply, &[], "") } else { spillway_with(&apply, &[], None) };
        said.exits(0).says("Applied: 50 objects were changed.")
    };
    let (lines, terminal) = std::thread::scope(|scope| {
        let terminal = scope.spawn(|| work(true));
        (work(false), terminal.join().expect("a thread"))
    });
    let told = |text: &str, begin: &str| {
        let words = text.split(begin).filter_map(|word| word.trim().strip_suffix("/50 done"));
        words.filter_map(|count| count.parse().ok()).collect::<Vec<usize>>()
    };
    let in_place = told(&terminal.out, "\r");
    assert!(in_place.len() > 2 && in_place.is_sorted(), "{in_place:?} in {}", terminal.all());
    // The last of it is wiped away before the summary.
    assert!(terminal.out.contains("\r\u{1b}[K"), "{:?}", terminal.out);
    let lines_told = told(&lines.err, "\n");
    assert!(!lines_told.is_empty() && lines_told.is_sorted(), "{}", lines.all());
    assert!(!lines.all().contains(['\r', '\u{1b}']), "{}", lines.all());
}
