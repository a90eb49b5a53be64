# shellcheck shell=bash
# Images: the sandbox image that every pod needs, and archives that are loaded by hand.

pause_artefact() { echo "$ARTEFACTS/pause-$PAUSE_VERSION-$(digest "$BED_SOURCE"/kubernetes/pause/{go.mod,main.go})"; }
pause_install() { artefact kubernetes "$(basename "$(pause_artefact)")" pause; }

# image_load FILE: pods name the image as the archive does, with imagePullPolicy IfNotPresent or Never.
image_load() {
  [[ $# -eq 1 ]] || die "usage: load-image FILE"
  need_root
  [[ -r $1 ]] || die "there is no image archive $1"
  unit_runs containerd || die "containerd does not run: hack/testbed up kubernetes"
  ctr_run images import --all-platforms=false "$1" || die "could not import $1: is it an OCI or docker archive?"
}
