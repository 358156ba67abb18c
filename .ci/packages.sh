# SPDX-License-Identifier: BSL-1.0
# shellcheck shell=bash
#
# Sourced by the scripts that users start: installs the packages they need on Debian and Ubuntu, or names
# those that are missing.

say() { printf '\n== %s\n' "$*"; }
die() { printf '\nerror: %s\n' "$*" >&2; exit 1; }

# Whether the content of a package is installed, from any source.
package_there() {
  case $1 in
    g++ | cmake | ccache | file | python3 | shellcheck | pkg-config) command -v "$1" > /dev/null ;;
    ninja-build) command -v ninja > /dev/null ;;
    clang-16 | clang-19) command -v "clang++-${1#clang-}" > /dev/null ;;
    clang-tidy-16 | clang-format-16) command -v "$1" > /dev/null ;;
    *) [[ $(dpkg-query -W -f='${db:Status-Status}' "$1" 2> /dev/null) == installed ]] ;;
  esac
}

packages_missing() {
  local package
  for package in "$@"; do package_there "$package" || echo "$package"; done
}

# need_packages PURPOSE NEEDED... -- WELCOME...
# Ends the script when a needed package cannot be installed; names the welcome ones that cannot.
need_packages() {
  local purpose=$1 package
  local -a needed=() welcome=() missing=() install=() sudo=()
  shift
  while (($# > 0)) && [[ $1 != -- ]]; do needed+=("$1"); shift; done
  if (($# > 0)); then shift; fi
  welcome=("$@")

  mapfile -t missing < <(packages_missing "${needed[@]}" "${welcome[@]}")
  if ((${#missing[@]} == 0)); then return 0; fi

  if ! command -v apt-get > /dev/null; then
    echo "There is no apt-get here, so nothing is installed for $purpose. Not found: ${missing[*]}"
  elif ((EUID != 0)) && ! command -v sudo > /dev/null; then
    echo "Neither root nor sudo, so nothing is installed for $purpose. As root:"
    echo "  apt-get install ${missing[*]}"
  else
    if ((EUID != 0)); then sudo=(sudo); fi
    if ((EUID != 0)) && [[ ! -t 0 ]]; then sudo=(sudo -n); fi
    local -a apt=("${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300)
    say "Installing for $purpose: ${missing[*]}"
    "${apt[@]}" update -q || echo "The package lists could not be refreshed."
    for package in "${missing[@]}"; do
      if apt-cache show "$package" > /dev/null 2>&1; then install+=("$package"); fi
    done
    if ((${#install[@]} > 0)); then
      # One that conflicts or cannot be fetched must not leave out the others.
      "${apt[@]}" install -q -y --no-install-recommends "${install[@]}" ||
        for package in "${install[@]}"; do
          "${apt[@]}" install -q -y --no-install-recommends "$package" || echo "$package could not be installed."
        done
    fi
  fi

  mapfile -t missing < <(packages_missing "${needed[@]}")
  if ((${#missing[@]} > 0)); then die "$purpose needs what is missing here: ${missing[*]}"; fi
  mapfile -t missing < <(packages_missing "${welcome[@]}")
  if ((${#missing[@]} > 0)); then
    echo "Missing here, so what needs them is skipped: ${missing[*]}"
  fi
}

# Packages for every build of this tree.
# shellcheck disable=SC2034  # used by the scripts that source this file
BUILD_PACKAGES=(g++ cmake ninja-build libfmt-dev libboost-dev)

# CMake 3.25 and a compiler of C++20: Debian 12 and Ubuntu 24.04 have both.
need_tools() {
  local version
  version=$(cmake --version | sed -n '1s/[^0-9]*\([0-9.]*\).*/\1/p')
  if [[ $(printf '%s\n' 3.25 "$version" | sort -V | head -n 1) != 3.25 ]]; then
    die "cmake $version is too old, 3.25 is needed (for example: pip install cmake)"
  fi
  version=$(${CXX:-g++} -dumpversion)
  if [[ -z ${CXX:-} ]] && ((${version%%.*} < 12)); then
    command -v g++-12 > /dev/null || die "g++ $version is too old, 12 is needed (apt-get install g++-12)"
    export CXX=g++-12
  fi
}

processors() { nproc 2> /dev/null || echo 2; }
