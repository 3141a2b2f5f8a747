# shellcheck shell=bash
# Builds every binary from the one Go module here, once for each state of its sources. `BIN` is where
# they end up; the folder's name is a hash of all that goes in, so a change never mixes old and new.

BUILD_STEPS=18

bin_dir() {
  local key
  key=$(
    cd "$LC_DIR" || exit
    {
      go env GOVERSION GOOS GOARCH
      cat go.mod go.sum lib/build.sh
      find . -name '*.go' -not -name '*_test.go' | sort | xargs cat
    } | sha256sum
  )
  printf '%s/bin-%.12s' "$CACHE" "$key"
}

# use_bin: sets BIN, building first when needed
use_bin() {
  check_go
  BIN=$(bin_dir)
  [ -e "$BIN/.complete" ] || build_all
}

cmd_build() {
  check_go
  BIN=$(bin_dir)
  if [ -e "$BIN/.complete" ]; then
    say "binaries are up to date: $BIN"
  else
    build_all
  fi
}

module_version() { awk -v m="$1" '$1 == m && $2 ~ /^v/ { print $2; exit }' "$LC_DIR/go.mod"; }

build_all() {
  local kubernetes containerd etcd coredns helm ld name
  mkdir -p "$BIN"
  exec 7>"$CACHE/build.lock"
  flock -n 7 || {
    announce "waiting for another build to finish"
    say "waiting for another build to finish"
    flock 7
  }
  [ ! -e "$BIN/.complete" ] || return 0
  BUILD_STEP=0
  BUILD_BEGAN=$SECONDS
  kubernetes=$(module_version k8s.io/kubernetes)
  containerd=$(module_version github.com/containerd/containerd/v2)
  etcd=$(module_version go.etcd.io/etcd/server/v3)
  coredns=$(module_version github.com/coredns/coredns)
  helm=$(module_version helm.sh/helm/v4)

  build_download
  ld=$(kubernetes_ldflags "$kubernetes")
  # One binary holds them all. Compiled one after the other they end one after the other, for people who wait; the
  # packages are compiled once either way, and linked once below.
  for name in kube-apiserver kube-controller-manager kube-scheduler kubelet kube-proxy; do
    compile "$name" "k8s.io/kubernetes/cmd/$name/app"
  done
  compile kubectl k8s.io/kubectl/pkg/cmd
  build "Kubernetes $kubernetes" kube "$ld" ./kube
  for name in kube-apiserver kube-controller-manager kube-scheduler kubelet kube-proxy kubectl; do
    ln -sf kube "$BIN/$name"
  done
  build "etcd ${etcd}" etcd "" go.etcd.io/etcd/server/v3
  ld="-X github.com/containerd/containerd/v2/version.Version=$containerd"
  build "containerd $containerd" containerd "$ld" github.com/containerd/containerd/v2/cmd/containerd
  build "containerd's runc shim" containerd-shim-runc-v2 "$ld" github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2
  build "ctr" ctr "$ld" github.com/containerd/containerd/v2/cmd/ctr
  build "image loader" imageload "" ./imageload
  build "CoreDNS $coredns" coredns "" ./coredns
  build "Helm $helm" helm "-X helm.sh/helm/v4/internal/version.version=$helm $(kubernetes_ldflags "$kubernetes")" helm.sh/helm/v4/cmd/helm
  build "volume provisioner" provisioner "" ./provisioner
  build "device plugin" deviceplugin "" ./deviceplugin
  build "pause" pause "" ./pause
  mkdir -p "$BIN/tools"
  for name in kubectl helm ctr; do ln -sf "../$name" "$BIN/tools/$name"; done
  touch "$BIN/.complete"
  flock -u 7
  prune_old_binaries
  say "built in $(minutes $((SECONDS - BUILD_BEGAN))): $BIN ($(du -sh "$BIN" | cut -f1))"
}

# Without these, nodes and clients call themselves v0.0.0-master.
kubernetes_ldflags() { # vX.Y.Z
  local package major minor
  IFS=. read -r major minor _ <<<"${1#v}"
  for package in k8s.io/component-base/version k8s.io/client-go/pkg/version; do
    printf -- '-X %s.gitVersion=%s -X %s.gitMajor=%s -X %s.gitMinor=%s -X %s.gitTreeState=archive ' \
      $package "$1" $package "$major" $package "$minor" $package
  done
}

build_download() {
  build_step "downloading sources" "$BIN/.download.log" go_in_module mod download
}

# What both give to Go: packages compiled with other flags would be compiled again.
GO_FLAGS=(-trimpath -buildvcs=false)

compile() { # NAME PACKAGE, into Go's cache
  build_step "compiling $1" "$BIN/.$1.log" go_in_module build "${GO_FLAGS[@]}" "$2"
}

build() { # TITLE OUTPUT LDFLAGS PACKAGE
  local title=$1
  shift
  build_step "building $title" "$BIN/.$1.log" go_in_module build "${GO_FLAGS[@]}" -ldflags "-s -w $2" -o "$BIN/$1" "$3"
}

build_step() { # TITLE LOG COMMAND...
  BUILD_STEP=$((BUILD_STEP + 1))
  follow "[$BUILD_STEP/$BUILD_STEPS] $1" "${@:2}"
}

# In place of the subshell it is called in, so that stopping that stops Go.
go_in_module() {
  cd "$LC_DIR" || exit
  export CGO_ENABLED=0
  exec go "$@"
}

# Older builds go, except those that some process still runs from.
prune_old_binaries() {
  local dir running
  running=$(readlink /proc/[0-9]*/exe 2>/dev/null || true)
  for dir in "$CACHE"/bin-*; do
    [ "$dir" = "$BIN" ] || grep -qF "$dir/" <<<"$running" || rm -rf "$dir"
  done
}
