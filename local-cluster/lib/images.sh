# shellcheck shell=bash
# Images without Docker and without a registry: a Debian base by mmdebstrap, builds by buildah, and
# loading into containerd by hard links (imageload/). The machine's package sources, CA and proxy
# reach RUN steps through a mount and the environment of their processes; no image keeps them.

BASE_SUITE=bookworm
# Where RUN steps see the machine's settings: an empty folder in every Debian image, so the mount
# leaves no trace.
BUILD_MOUNT=/mnt

cmd_base_image() {
  need_root
  need mmdebstrap buildah runc
  local key
  key=$(declare -f bootstrap_base | sha256sum | cut -c1-12)
  if [ "$(image_label "$BASE_IMAGE" qwensft.io/base-key)" = "$key" ] && [ -d "$CACHE/apt" ]; then
    say "$BASE_IMAGE is up to date"
    return
  fi
  BASE_WORK=$(mktemp -d)
  # shellcheck disable=SC2064
  trap "step_failed; rm -rf '$BASE_WORK'" EXIT
  step "Debian $BASE_SUITE with Python"
  bootstrap_base "$BASE_WORK" || {
    step_failed
    tail -n 20 "$BASE_WORK/log" >&2
    die "mmdebstrap failed"
  }
  step "image $BASE_IMAGE"
  cat >"$BASE_WORK/Dockerfile" <<DOCKERFILE
FROM scratch
ADD base.tar /
ENV LANG=C.UTF-8
LABEL qwensft.io/base-key=$key
CMD ["bash"]
DOCKERFILE
  buildah build --quiet --layers=false --tag "$BASE_IMAGE" "$BASE_WORK" >/dev/null
  rm -rf "$CACHE/apt"
  mkdir -p "$CACHE"
  mv "$BASE_WORK/apt" "$CACHE/apt"
  step_done
  say "$BASE_IMAGE: $(stat -c %s "$BASE_WORK/base.tar" | awk '{ printf "%d", $1 / 1000000 }') MB before compression"
}

# The excludes stay in force for packages that a Dockerfile adds later. Licences are kept.
# usr-is-merged: its alternative, usrmerge, brings all of Perl.
bootstrap_base() { # DIRECTORY
  local sources=()
  mapfile -t sources < <(debian_sources)
  mkdir "$1/apt"
  # shellcheck disable=SC2016
  mmdebstrap --mode=root --variant=minbase --include=ca-certificates,python3,usr-is-merged \
    --hook-dir=/usr/share/mmdebstrap/hooks/merged-usr \
    --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-include=/usr/share/doc/*/copyright' \
    --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/info/*' \
    --dpkgopt='path-exclude=/usr/share/locale/*' --dpkgopt='path-exclude=/usr/share/lintian/*' \
    --aptopt='APT::Install-Recommends "false"' \
    --customize-hook='printf "%s\n" "APT::Keep-Downloaded-Packages \"false\";" "Dir::Cache::pkgcache \"\";" "Dir::Cache::srcpkgcache \"\";" >"$1"/etc/apt/apt.conf.d/50no-caches' \
    --customize-hook='cp -r "$1"/etc/apt/sources.list* '"'$1/apt/'" \
    --customize-hook='rm -rf "$1"/etc/apt/sources.list "$1"/etc/apt/sources.list.d/* "$1"/var/log/* "$1"/var/cache/*/* "$1"/etc/machine-id' \
    $BASE_SUITE "$1/base.tar" "${sources[@]}" >"$1/log" 2>&1
}

# The machine's own sources when it runs the same Debian; otherwise mmdebstrap's default serves.
debian_sources() {
  # shellcheck source=/dev/null
  [ "$(. /etc/os-release && echo "${ID:-}-${VERSION_CODENAME:-}")" = "debian-$BASE_SUITE" ] || return 0
  if [ -e /etc/apt/sources.list.d/debian.sources ]; then
    echo /etc/apt/sources.list.d/debian.sources
  elif [ -s /etc/apt/sources.list ]; then
    echo /etc/apt/sources.list
  fi
}

image_label() { # IMAGE LABEL
  buildah inspect --type image --format "{{index .OCIv1.Config.Labels \"$2\"}}" "$1" 2>/dev/null || true
}

cmd_build_image() {
  [ $# -ge 2 ] || die "usage: build-image NAME CONTEXT [buildah build arguments]"
  need_root
  need buildah runc
  local name=$1 context=$2 arguments=()
  shift 2
  # A Dockerfile with `ARG BASE_IMAGE` gets ours, unless the caller names another.
  if [[ " $* " != *BASE_IMAGE=* ]]; then
    cmd_base_image
    arguments+=(--build-arg "BASE_IMAGE=$BASE_IMAGE")
  fi
  local settings
  settings=$(mktemp -d)
  # shellcheck disable=SC2064
  trap "rm -rf '$settings'" EXIT
  # Also for RUN steps after a USER line.
  chmod 755 "$settings"
  write_build_settings "$settings"
  export QWENSFT_BUILD_ENV=$settings/env
  buildah build --isolation oci --network host --layers --runtime "$LC_DIR/lib/runc-with-env" \
    --volume "$settings:$BUILD_MOUNT:ro" "${arguments[@]}" --tag "$name" "$@" "$context"
}

# Writes the files that RUN steps see in $BUILD_MOUNT, and `env`: one NAME=value a line.
write_build_settings() { # DIRECTORY
  local name ca variables=()
  if [ -d "$CACHE/apt" ]; then cp -r "$CACHE/apt" "$1/apt"; fi
  # After the image's own configuration: the sources that its base was made from, this machine's proxy.
  {
    printf 'Dir::Etc::sourcelist "%s/apt/sources.list";\nDir::Etc::sourceparts "%s/apt/sources.list.d";\n' $BUILD_MOUNT $BUILD_MOUNT
    ! command -v apt-config >/dev/null || apt-config dump | grep -iE '^Acquire::https?::Proxy ' || true
  } >"$1/apt.conf"
  variables+=("APT_CONFIG=$BUILD_MOUNT/apt.conf")
  ca=$(machine_ca)
  if [ -n "$ca" ]; then
    cp "$ca" "$1/ca.crt"
    printf 'Acquire::https::CAInfo "%s/ca.crt";\n' $BUILD_MOUNT >>"$1/apt.conf"
    for name in SSL_CERT_FILE REQUESTS_CA_BUNDLE CURL_CA_BUNDLE PIP_CERT; do
      variables+=("$name=$BUILD_MOUNT/ca.crt")
    done
  fi
  if [ -e /etc/pip.conf ]; then
    grep -vE '^[[:space:]]*(cert|find-links)[[:space:]]*=' /etc/pip.conf >"$1/pip.conf" || true
    variables+=("PIP_CONFIG_FILE=$BUILD_MOUNT/pip.conf")
  fi
  for name in ${!PIP_*} ${!UV_*}; do
    # Paths of this machine mean nothing in there.
    [[ $name =~ ^(PIP_CERT|PIP_CONFIG_FILE)$ || ${!name} == /* || ${!name} == *$'\n'* ]] || variables+=("$name=${!name}")
  done
  printf '%s\n' "${variables[@]}" >"$1/env"
}

# The CA bundle, if this machine was told to use a particular one.
machine_ca() {
  local candidate
  for candidate in "${SSL_CERT_FILE:-}" "${PIP_CERT:-}" "${REQUESTS_CA_BUNDLE:-}" "${CURL_CA_BUNDLE:-}" \
    "$(sed -nE 's/^[[:space:]]*cert[[:space:]]*=[[:space:]]*//p' /etc/pip.conf 2>/dev/null | head -n 1)"; do
    if [ -s "$candidate" ]; then
      echo "$candidate"
      return
    fi
  done
}

cmd_load_image() {
  [ $# -ge 1 ] || die "usage: load-image NAME..."
  need_root
  need buildah
  if ! use_recorded_bin || not_running containerd; then
    die "the cluster is not running; start it with: $LC_DIR/cluster up"
  fi
  local name driver root
  # Resolves what storage.conf says; metacopy layers hold files without their content.
  driver=$(buildah info --format '{{.store.GraphDriverName}} {{index .store.GraphStatus "Using metacopy"}}')
  root=$(buildah info --format '{{.store.GraphRoot}}')
  for name in "$@"; do
    if [ "$driver" = "overlay false" ]; then
      link_image "$root" "$name"
    else
      import_archive "$name"
    fi
  done
}

# While some buildah command runs, its storage is a mount of its own, and hard links never cross mounts:
# so the loader sees the machine without that mount.
link_image() { # STORAGE NAME
  # shellcheck disable=SC2016
  unshare --mount --propagation private bash -c '
    while mountpoint --quiet "$1/overlay"; do umount --lazy "$1/overlay"; done
    exec "$2" -address "$3" -storage "$1" load "$4"
  ' link-image "$1" "$BIN/imageload" "$CONTAINERD_SOCKET" "$2"
}

# Slow, but right with any storage driver: every layer is copied twice.
import_archive() { # NAME
  local archive
  archive=$(mktemp "$STATE/image-XXXXXX.tar")
  # shellcheck disable=SC2064
  trap "rm -f '$archive'" EXIT
  rm "$archive"
  buildah push --quiet --disable-compression "$1" "docker-archive:$archive:$1"
  ctr_k8s images import --local --snapshotter overlayfs --discard-unpacked-layers "$archive"
  rm -f "$archive"
  trap - EXIT
}
