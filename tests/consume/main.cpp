// SPDX-License-Identifier: BSL-1.0
// A user's first program; every way of consuming the library builds this one.
#include <phasebit/phasebit.hpp>

#include <cstdio>

int main() {
  const auto wire = phasebit::le<unsigned short>{0x1234};
  std::printf("phasebit %d.%d.%d\n", phasebit::version.major_number, phasebit::version.minor_number,
              phasebit::version.patch_number);
  return wire.get() == 0x1234 ? 0 : 1;
}
