#!/usr/bin/env bash
# Installs a Vulkan loader and driver if none is found: Mesa, whose lavapipe runs on any CPU. The version in bookworm-backports
# runs our shaders 1.4 times as fast as the stable one, so that suite is added, from the archive that the machine uses already.
. "$(dirname "$0")/common.sh"
[ "$(uname -s)" = Linux ] || exit 0 # macOS has Metal, Windows has DirectX 12

loader() { { ldconfig -p || /sbin/ldconfig -p; } 2>/dev/null | grep -q 'libvulkan\.so\.1'; }
driver() {
    [ -n "${VK_DRIVER_FILES:-${VK_ICD_FILENAMES:-}}" ] && return
    local dir
    for dir in /usr/share /usr/local/share /etc "${XDG_DATA_HOME:-$HOME/.local/share}"; do
        compgen -G "$dir/vulkan/icd.d/*.json" >/dev/null && return
    done
    return 1
}
loader && driver && exit 0
has apt-get || die "no Vulkan driver found: install your GPU's, or Mesa's (mesa-vulkan-drivers, vulkan-loader), with your package manager"

# The archive that serves this release, as apt reads its sources: "URI SUITE COMPONENT KEYRING".
sources() { apt-get indextargets --format '$(REPO_URI) $(RELEASE) $(COMPONENT) $(SIGNED_BY)' 'Created-By: Packages' | sort -u; }
add_backports() {
    local suite uri key
    suite=$(. /etc/os-release && echo "${VERSION_CODENAME:-}")
    [ "$suite" = bookworm ] || return 1
    sources | awk -v suite="$suite-backports" '$2 == suite { found = 1 } END { exit !found }' && return
    read -r uri _ _ key < <(sources | awk -v suite="$suite" '$2 == suite && $3 == "main"') || return 1
    case $key in /*) ;; *) key=/usr/share/keyrings/debian-archive-keyring.gpg ;; esac
    say "adding $suite-backports from the archive in use"
    printf 'deb [signed-by=%s] %s %s-backports main\n' "$key" "$uri" "$suite" |
        as_root tee /etc/apt/sources.list.d/headstart-backports.list >/dev/null
    as_root apt-get -qq -o Dpkg::Use-Pty=0 update </dev/null >&2
}
if add_backports; then
    apt_install -t bookworm-backports libvulkan1 mesa-vulkan-drivers && exit 0
    say "backports are not available: using the stable release"
fi
apt_install libvulkan1 mesa-vulkan-drivers ||
    die "no Vulkan driver found and none could be installed: as root, apt-get install libvulkan1 mesa-vulkan-drivers"
