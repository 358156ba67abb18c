// SPDX-License-Identifier: BSL-1.0
// Payloads of vhost-user that have the layout of vhost's ioctl arguments, against the header that
// Linux ships for user space.
#define VIRTIO_RING_NO_LEGACY  // leaves out vring_init, which is no C++

#include <phasebit/transport/vhost_user/messages.hpp>

#include <cstddef>
#include <cstdint>

#include <doctest/doctest.h>
#include <linux/vhost_types.h>

namespace vu = phasebit::transport::vhost_user;

TEST_CASE("vhost-user payloads have the layout of linux/vhost_types.h") {
  static_assert(sizeof(vu::vring_state) == sizeof(vhost_vring_state));
  static_assert(offsetof(vu::vring_state, index) == offsetof(vhost_vring_state, index));
  static_assert(offsetof(vu::vring_state, num) == offsetof(vhost_vring_state, num));

  static_assert(sizeof(vu::vring_addr) == sizeof(vhost_vring_addr));
  static_assert(offsetof(vu::vring_addr, index) == offsetof(vhost_vring_addr, index));
  static_assert(offsetof(vu::vring_addr, flags) == offsetof(vhost_vring_addr, flags));
  static_assert(offsetof(vu::vring_addr, desc_user_addr) ==
                offsetof(vhost_vring_addr, desc_user_addr));
  static_assert(offsetof(vu::vring_addr, used_user_addr) ==
                offsetof(vhost_vring_addr, used_user_addr));
  static_assert(offsetof(vu::vring_addr, avail_user_addr) ==
                offsetof(vhost_vring_addr, avail_user_addr));
  static_assert(offsetof(vu::vring_addr, log_guest_addr) ==
                offsetof(vhost_vring_addr, log_guest_addr));

  static_assert(sizeof(vu::memory_table_header) == offsetof(vhost_memory, regions));
  static_assert(offsetof(vu::memory_table_header, regions) == offsetof(vhost_memory, nregions));
  static_assert(sizeof(vu::memory_region) == sizeof(vhost_memory_region));
  static_assert(offsetof(vu::memory_region, guest_addr) ==
                offsetof(vhost_memory_region, guest_phys_addr));
  static_assert(offsetof(vu::memory_region, size) == offsetof(vhost_memory_region, memory_size));
  static_assert(offsetof(vu::memory_region, user_addr) ==
                offsetof(vhost_memory_region, userspace_addr));
  // vhost-user carries the offset in the file where the ioctl has a word without a meaning.
  static_assert(offsetof(vu::memory_region, mmap_offset) ==
                offsetof(vhost_memory_region, flags_padding));
  CHECK(sizeof(vu::single_region) == sizeof(std::uint64_t) + sizeof(vhost_memory_region));
}

TEST_CASE("the flags of vhost-user have the numbers of linux/vhost_types.h") {
  CHECK(vu::vring_flag_log == 1U << VHOST_VRING_F_LOG);
  CHECK(vu::feature_log_all == 1ULL << VHOST_F_LOG_ALL);
}
