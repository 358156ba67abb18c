// SPDX-License-Identifier: BSL-1.0
// Block counts start at 1; the zero-based count of the wire is the builder's business.
// EXPECT: a command is for 1 to 65536 blocks
#include <phasebit/nvme/spec/nvm_commands.hpp>

#ifdef PHASEBIT_FAIL_FIXED
constexpr auto mistake = phasebit::nvme::nvm::read({.nsid = 1, .lba = 8, .blocks = 1});
#else
constexpr auto mistake = phasebit::nvme::nvm::read({.nsid = 1, .lba = 8, .blocks = 0});
#endif
static_assert(mistake.cdw12 == 0U);
