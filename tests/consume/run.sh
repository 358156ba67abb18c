#!/usr/bin/env bash
# SPDX-License-Identifier: BSL-1.0
# Builds and runs a user's program against the library.
# Usage: run.sh find_package|fetch_content|add_subdirectory|pkg_config SOURCE WORK PREFIX VERSION CXX HOSTED
set -euo pipefail
kind=$1 source=$2 work=$3 prefix=$4 version=$5 cxx=$6 hosted=$7
here=$source/tests/consume

rm -rf "$work"
mkdir -p "$work"
# A prefix that has been moved must work as well as one that stayed.
if [[ $kind == find_package || $kind == pkg_config ]]; then
  cp -r "$prefix" "$work/moved"
  prefix=$work/moved
fi

options=(-DCMAKE_CXX_COMPILER="$cxx" -DCMAKE_CXX_FLAGS="-Wall -Wextra -Werror")
case $kind in
  find_package)
    options+=(-DCMAKE_PREFIX_PATH="$prefix" -DWANTED_VERSION="$version" -DWITH_HOSTED="$hosted") ;;
  fetch_content)
    tar -cf "$work/phasebit.tar" -C "$source" CMakeLists.txt cmake include LICENSE
    options+=(-DPHASEBIT_ARCHIVE="$work/phasebit.tar") ;;
  add_subdirectory)
    options+=(-DPHASEBIT_SOURCE_DIR="$source") ;;
  pkg_config)
    command -v pkg-config > /dev/null || { echo "skipped: pkg-config is not installed"; exit 77; }
    export PKG_CONFIG_PATH=$prefix/share/pkgconfig
    found=$(pkg-config --modversion phasebit)
    [[ $found == "$version" ]] || { echo "pkg-config reports $found, not $version"; exit 1; }
    read -ra flags <<< "$(pkg-config --cflags --libs phasebit)"
    "$cxx" -std=c++20 -Wall -Wextra -Werror "$here/main.cpp" "${flags[@]}" -o "$work/consume"
    exec "$work/consume" ;;
esac

cmake -G Ninja -S "$here/$kind" -B "$work/build" "${options[@]}"
cmake --build "$work/build"
"$work/build/consume"
if [[ -x $work/build/consume_hosted ]]; then "$work/build/consume_hosted"; fi
