// SPDX-License-Identifier: BSL-1.0
#include <phasebit/posix/memory_mapping.hpp>
#include <phasebit/posix/unique_fd.hpp>

#include <cstddef>
#include <cstdint>
#include <limits>
#include <utility>

#include <doctest/doctest.h>
#include <sys/mman.h>
#include <unistd.h>

using namespace phasebit;
using posix::memory_mapping;
using posix::unique_fd;

TEST_CASE("anonymous memory is zeroed, ours, and keeps its address when it moves") {
  auto memory = memory_mapping::anonymous(8192);
  REQUIRE(memory);
  REQUIRE(memory->size() == 8192);
  for (const std::byte b : memory->bytes()) REQUIRE(b == std::byte{0});
  std::byte* const at = memory->data();
  at[8191] = std::byte{7};
  memory_mapping owner{std::move(*memory)};
  CHECK_FALSE(*memory);
  CHECK(owner.data() == at);
  memory_mapping other;
  other = std::move(owner);
  CHECK(other.bytes()[8191] == std::byte{7});
  other.reset();
  CHECK_FALSE(other);
  CHECK(::msync(at, 8192, MS_ASYNC) != 0);  // nothing is mapped there any more
}

TEST_CASE("two mappings of one file are the same bytes, from any page on") {
  const unique_fd file{::memfd_create("phasebit", MFD_CLOEXEC)};
  REQUIRE(file);
  REQUIRE(::ftruncate(file.get(), 16384) == 0);
  const auto all = memory_mapping::shared(file.get(), 16384);
  const auto last = memory_mapping::shared(file.get(), 4096, 12288, false);
  REQUIRE(all);
  REQUIRE(last);
  all->bytes()[12289] = std::byte{9};
  CHECK(last->bytes()[1] == std::byte{9});
}

TEST_CASE("a mapping lands where it was asked to be aligned, and leaves nothing else behind") {
  const unique_fd file{::memfd_create("phasebit", MFD_CLOEXEC)};
  REQUIRE(file);
  REQUIRE(::ftruncate(file.get(), 16384) == 0);
  const auto plain = memory_mapping::shared(file.get(), 16384);
  REQUIRE(plain);
  for (std::size_t alignment = 4096; alignment <= std::size_t{1} << 28; alignment *= 4) {
    const auto mapping = memory_mapping::shared_aligned(file.get(), 16384, alignment);
    REQUIRE(mapping);
    CHECK(mapping->size() == 16384);
    CHECK(reinterpret_cast<std::uintptr_t>(mapping->data()) % alignment == 0);
    mapping->bytes()[9999] = static_cast<std::byte>(alignment >> 12);
    CHECK(plain->bytes()[9999] == mapping->bytes()[9999]);
    CHECK(::msync(mapping->data() + 16384, 4096, MS_ASYNC) != 0);
  }
  CHECK_FALSE(memory_mapping::shared_aligned(-1, 4096, 4096));
}

TEST_CASE("what cannot be mapped is an error, never a crash") {
  CHECK_FALSE(memory_mapping::anonymous(0));
  CHECK_FALSE(memory_mapping::anonymous(std::numeric_limits<std::size_t>::max() / 2));
  CHECK_FALSE(memory_mapping::shared(-1, 4096));
  const unique_fd file{::memfd_create("phasebit", MFD_CLOEXEC)};
  CHECK_FALSE(memory_mapping::shared(file.get(), 4096, 1));
  const auto far = memory_mapping::shared(file.get(), 4096, ~std::uint64_t{0} - 4095);
  REQUIRE_FALSE(far);
  CHECK(far.error().code == errc::out_of_range);
}
