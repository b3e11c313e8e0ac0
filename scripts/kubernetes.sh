#!/usr/bin/env bash
# Provides a real Kubernetes of this machine for tests: Debian's 1.20.2, built once from its source.
#
#   scripts/kubernetes.sh build [COMPONENT …]   builds what is not built yet, and prints where it is
#   scripts/kubernetes.sh path                  prints where it is, or ends with 1
#
# The components are kube-apiserver, kube-controller-manager, kube-scheduler and kubelet; `build`
# alone makes the first two, which the tests of the operator need. kubectl is always among them, as
# Debian's package has it. A first build takes ten minutes on two processors that are idle, and
# 2 GB; the source and Go's cache are removed after it.
# shellcheck source=scripts/common.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/common.sh"

version=1.20.2
place=$cache/kubernetes-$version
needed=(kube-apiserver kube-controller-manager)

is_built() { # COMPONENT
    [[ -x $place/bin/$1 ]]
}

missing() {
    local component
    for component in "$@"; do is_built "$component" || printf '%s\n' "$component"; done
}

install_tools() {
    [[ ! -x /usr/lib/go-1.19/bin/go || ! -d /usr/share/gocode/src/github.com/modern-go/reflect2 ]] ||
        ! have etcd || ! have dpkg-source || return 0
    (($(id -u) == 0)) && have apt-get || die 'cannot install what Kubernetes is built with: not root on Debian' \
        'run: sudo apt-get install golang-1.19-go golang-github-modern-go-reflect2-dev etcd-server dpkg-dev'
    say 'installing Go 1.19, etcd and what unpacks a source package'
    DEBIAN_FRONTEND=noninteractive apt-get install -q --yes --no-install-recommends golang-1.19-go \
        golang-github-modern-go-reflect2-dev etcd-server dpkg-dev </dev/null >&2
}

# Gets the source package, from the same place as this machine's packages.
fetch() { # DIRECTORY
    local lists=$1/lists options
    mkdir -p -- "$lists/partial" "$lists/sources.d"
    sed 's/^Types:.*/Types: deb-src/; s/^deb /deb-src /' \
        /etc/apt/sources.list.d/debian.sources >"$lists/sources.d/debian.sources" 2>/dev/null ||
        die 'there is no /etc/apt/sources.list.d/debian.sources' 'this needs Debian 12'
    options=(-o "Dir::Etc::sourcelist=/dev/null" -o "Dir::Etc::sourceparts=$lists/sources.d" -o "Dir::State::lists=$lists"
        -o "Dir::Cache::pkgcache=" -o "Dir::Cache::srcpkgcache=")
    apt-get "${options[@]}" update -q >&2
    # The sandbox user of apt may not write here.
    (cd -- "$1" && apt-get "${options[@]}" -o APT::Sandbox::User=root source -q kubernetes) >&2
}

# Lays the source where Go of the time before modules looks for it, and adds what it lacks.
prepare() { # DIRECTORY
    local directory=$1 source
    for source in "$directory"/kubernetes-*/; do break; done
    [[ -f $source/go.mod ]] || die 'the source package has no go.mod'
    mkdir -p -- "$directory/go/src/k8s.io"
    mv -- "$source" "$directory/go/src/k8s.io/kubernetes"
    cd -- "$directory/go/src/k8s.io/kubernetes"
    # The vendored one reads a map in a way that Go no longer allows: the API server crashes.
    rm -rf -- vendor/github.com/modern-go/reflect2
    cp -rL -- /usr/share/gocode/src/github.com/modern-go/reflect2 vendor/github.com/modern-go/
    # Without CAP_SYS_RESOURCE no sandbox can get a score below that of the kubelet.
    sed -i 's/\(defaultSandboxOOMAdj[^=]*= \)-[0-9]*/\10/' pkg/kubelet/dockershim/docker_sandbox.go
    sed -i 's/\(guaranteedOOMScoreAdj[^=]*= \)-[0-9]*/\10/' pkg/kubelet/qos/policy.go
    say 'generating the OpenAPI of its types'
    generate
}

# The tarball has no pkg/generated/openapi/zz_generated.openapi.go.
generate() {
    [[ ! -f pkg/generated/openapi/zz_generated.openapi.go ]] || return 0
    local inputs
    go build -o "$work/openapi-gen" ./vendor/k8s.io/kube-openapi/cmd/openapi-gen
    # As in build/root/Makefile.generated_files: each package that asks for it.
    inputs=$(grep -rlE --include='*.go' '^// \+k8s:openapi-gen=' pkg cmd staging/src/k8s.io vendor/k8s.io 2>/dev/null |
        sed -E 's|/[^/]*$||; s|^staging/src/|k8s.io/kubernetes/vendor/|; s|^(pkg\|cmd\|vendor)/|k8s.io/kubernetes/\1/|' |
        grep -vE 'examples?|/test|code-generator|sample' | sort -u | paste -sd,)
    "$work/openapi-gen" --v 1 --logtostderr --go-header-file hack/boilerplate/boilerplate.generatego.txt \
        --output-base "$work/go/src" --output-file-base zz_generated.openapi \
        --output-package k8s.io/kubernetes/pkg/generated/openapi --report-filename "$work/violations" \
        --input-dirs "$inputs" >&2
}

# Debian's own kubectl, without its package: this machine may have another one.
get_kubectl() {
    is_built kubectl && return 0
    mkdir -p -- "$place/bin" "$work/client"
    (cd -- "$work/client" && apt-get -o APT::Sandbox::User=root download -q kubernetes-client) >&2
    dpkg-deb -x "$work"/client/*.deb "$work/client"
    mv -- "$work/client/usr/bin/kubectl" "$place/bin/kubectl"
}

compile() { # COMPONENT
    local at=k8s.io/kubernetes/vendor/k8s.io/component-base/version
    go build -o "$work/$1" -ldflags "-s -w -X $at.gitVersion=v$version -X $at.gitMajor=1 -X $at.gitMinor=20" "./cmd/$1"
    mkdir -p -- "$place/bin"
    mv -- "$work/$1" "$place/bin/$1"
}

build() {
    local left component since
    mapfile -t left < <(missing "$@" kubectl)
    ((${#left[@]})) || return 0
    mkdir -p -- "$place"
    exec 9>"$place/lock"
    flock 9
    install_tools
    work=$place/build
    get_kubectl
    mapfile -t left < <(missing "$@")
    ((${#left[@]})) || { rm -rf -- "$work" && return 0; }
    export PATH=/usr/lib/go-1.19/bin:$PATH GOPATH=$work/go GOCACHE=$work/gocache GO111MODULE=off GOPROXY=off \
        GOFLAGS= CGO_ENABLED=0
    if [[ ! -f $work/prepared ]]; then
        rm -rf -- "$work"
        mkdir -p -- "$work"
        say "getting the source of Kubernetes $version"
        fetch "$work"
        (prepare "$work")
        touch -- "$work/prepared"
    fi
    cd -- "$work/go/src/k8s.io/kubernetes"
    for component in "${left[@]}"; do
        since=$SECONDS
        say "building $component (some minutes, once)"
        compile "$component"
        say "built $component in $((SECONDS - since)) s"
    done
    cd -- "$root"
    # Go makes its caches read-only.
    chmod -R u+w -- "$work"
    rm -rf -- "$work"
}

case ${1:-} in
build)
    shift
    (($#)) || set -- "${needed[@]}"
    build "$@" </dev/null
    printf '%s\n' "$place"
    ;;
path)
    [[ -z $(missing "${needed[@]}" kubectl) ]] || die "Kubernetes $version is not built" 'run: scripts/kubernetes.sh build'
    printf '%s\n' "$place"
    ;;
*) die 'usage: scripts/kubernetes.sh build [COMPONENT …]|path' ;;
esac
