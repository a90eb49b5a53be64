//! What the scripts of `hack/` promise where something is missing or fails, with stand-ins for what they call.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// A folder of commands that come before those of the machine, and of files.
struct Stage(PathBuf);

impl Stage {
    fn new(name: &str) -> Self {
        let folder =
            Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("scripts-{}-{name}", std::process::id()));
        fs::create_dir_all(folder.join("bin")).expect("a folder");
        Self(folder)
    }

    fn command(&self, name: &str, script: &str) {
        let path = self.0.join("bin").join(name);
        fs::write(&path, format!("#!/usr/bin/env bash\n{script}\n")).expect("a script");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("it can be run");
    }

    fn notes(&self) -> String {
        fs::read_to_string(self.0.join("notes")).unwrap_or_default()
    }

    fn run(&self, script: &str) -> Output {
        let path = format!("{}:{}", self.0.join("bin").display(), std::env::var("PATH").expect("a PATH"));
        Command::new("bash")
            .args(["-c", script])
            .env("PATH", path)
            .env("SPILLWAY_TEST_NOTES", self.0.join("notes"))
            .env("LOG", self.0.join("log"))
            .env("CALLS", self.0.join("calls"))
            .output()
            .expect("bash")
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn words(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// A machine whose toolchain has no llvm-tools and cannot get any.
fn without_llvm(name: &str) -> Stage {
    let stage = Stage::new(name);
    stage.command("rustup", "exit 1");
    let sysroot = stage.0.display();
    stage.command(
        "rustc",
        &format!(
            "case $1 in --print) echo {sysroot} ;; *) printf 'host: here\\nLLVM version: 0.1\\n' ;; esac"
        ),
    );
    stage
}

/// What `hack/image` asks docker for, in a tree that git calls clean or changed.
fn image(name: &str, status: &str, arguments: &str) -> (Output, String) {
    let stage = Stage::new(name);
    stage.command("docker", "echo \"$*\" >>\"$CALLS\"");
    stage
        .command("git", &format!("case $3 in rev-parse) echo 0123abcd ;; status) printf '{status}' ;; esac"));
    let output = stage.run(&format!("SPILLWAY_IMAGE_TOOL=docker hack/image operator {arguments}"));
    let calls = fs::read_to_string(stage.0.join("calls")).unwrap_or_default();
    (output, calls)
}

#[test]
fn an_image_of_a_changed_tree_does_not_call_itself_a_commit() {
    for (name, status, revision) in
        [("clean", "", "REVISION=0123abcd "), ("changed", "?? src/new.rs", "REVISION=0123abcd-dirty ")]
    {
        let (output, calls) = image(name, status, "");
        assert!(output.status.success() && calls.contains(revision), "{}{calls}", words(&output));
        assert!(!calls.contains("--platform"), "{calls}");
    }
}

#[test]
fn an_image_for_another_kind_of_machine_is_asked_for_and_a_binary_is_not_taken_for_one() {
    let (output, calls) = image("arm", "", "--platform linux/arm64");
    assert!(output.status.success(), "{}", words(&output));
    assert!(calls.starts_with("build ") && calls.contains(" --platform linux/arm64 "), "{calls}");
    let (output, calls) = image("both", "", "--platform linux/arm64 --prebuilt /bin/true --out x.tar");
    assert!(!output.status.success() && calls.is_empty(), "{}{calls}", words(&output));
}

/// One stage of CI, when so many seconds have passed already.
fn ci_after(seconds: u32) -> Output {
    let stage = Stage::new(&format!("ci-{seconds}"));
    stage.command("cargo", "true");
    let target = stage.0.display();
    stage.run(&format!("SECONDS={seconds} CARGO_TARGET_DIR={target} SPILLWAY_CI_ONLY=format bash .ci/run"))
}

#[test]
fn a_slow_ci_says_so_at_the_end_and_one_that_is_too_slow_fails() {
    for (seconds, code, expected) in [
        (2_000, 0, None),
        (2_460, 0, Some("!! took 41 min: the aim is 40")),
        (5_460, 1, Some("!! took 91 min: more than 90, which is a failure")),
    ] {
        let output = ci_after(seconds);
        let said = words(&output);
        assert_eq!(output.status.code(), Some(code), "{said}");
        match expected {
            Some(line) => assert!(said.contains(line), "{said}"),
            None => assert!(!said.contains("!!"), "{said}"),
        }
    }
}

#[test]
fn coverage_that_cannot_be_measured_is_no_success_and_in_ci_stands_in_the_last_lines() {
    let stage = without_llvm("coverage");
    let asked = stage.run("hack/coverage");
    assert!(!asked.status.success(), "{}", words(&asked));
    let in_ci = stage.run("hack/coverage --report");
    assert!(in_ci.status.success(), "{}", words(&in_ci));
    for said in [words(&asked), words(&in_ci), stage.notes()] {
        assert!(said.starts_with("coverage NOT MEASURED: no llvm-tools here"), "{said}");
    }
    assert_eq!(stage.notes().lines().count(), 1, "{}", stage.notes());
    let ci = fs::read_to_string(".ci/run").expect(".ci/run");
    assert!(ci.contains("component add llvm-tools") && ci.contains("sed 's/^/!! /' \"$notes\""), "{ci}");
}

/// `twice` with a cargo whose first run fails `failing`, and whose second one ends with `second`.
fn tried_twice(name: &str, failing: &[&str], second: i32) -> (Output, Stage) {
    let stage = Stage::new(name);
    let lines: Vec<_> = failing.iter().map(|test| format!("echo 'test {test} ... FAILED'\n")).collect();
    let lines = lines.concat();
    let first = format!("echo 'test fine ... ok'\n{lines}exit 101");
    stage.command(
        "cargo",
        &format!("echo \"$*\" >>\"$CALLS\"\n[[ $* == *--exact* ]] && exit {second}\n{first}"),
    );
    let output = stage.run(
        "set -uo pipefail; REPORT=(); source hack/test.d/twice.sh
         twice e2e -- --test-threads 8; status=$?
         printf 'report: %s\\n' \"${REPORT[@]}\"; printf 'alone: %s\\n' \"${ALONE[@]}\"; exit $status",
    );
    (output, stage)
}

#[test]
fn a_test_that_passed_only_alone_is_told_at_the_end() {
    let (output, stage) = tried_twice("alone", &["a::one", "b::two"], 0);
    let said = words(&output);
    assert!(output.status.success(), "{said}");
    assert!(said.contains("report:              PASSED ONLY ALONE: a::one b::two\n"), "{said}");
    assert!(said.contains("alone: a::one\nalone: b::two\n"), "{said}");
    assert_eq!(stage.notes(), "passed only alone: a::one\npassed only alone: b::two\n");
    let script = fs::read_to_string("hack/test").expect("hack/test");
    assert!(script.contains("passed in %d s, but %d only alone"), "the last line says so, too");
}

#[test]
fn a_test_that_fails_alone_too_has_failed() {
    let (output, stage) = tried_twice("again", &["a::one"], 101);
    assert!(!output.status.success(), "{}", words(&output));
    assert_eq!(stage.notes(), "");
}

#[test]
fn more_than_three_that_fail_get_no_second_try() {
    let (output, stage) = tried_twice("many", &["a", "b", "c", "d"], 0);
    let said = words(&output);
    assert!(!output.status.success() && said.contains("4 failed: too many for a second try"), "{said}");
    let calls = fs::read_to_string(stage.0.join("calls")).expect("calls");
    assert_eq!(calls, "test --no-fail-fast --test e2e -- --test-threads 8\n", "one run");
}
