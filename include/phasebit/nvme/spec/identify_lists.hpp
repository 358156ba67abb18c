// SPDX-License-Identifier: BSL-1.0
// The lists that Identify returns: NVMe Base 2.0, section 5.17.2. Each answer is 4096 bytes.
#pragma once

#include <phasebit/core/field.hpp>
#include <phasebit/core/wire.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

namespace phasebit::nvme {

// Active and allocated namespaces, CNS 02h and 10h: ids above the NSID requested, ascending; the
// first 0 ends the list (figure 146).
struct namespace_list {
  std::array<le<std::uint32_t>, 1024> nsid;

  // The ids there are. A list that a device filled to the brim is followed by another.
  [[nodiscard]] constexpr std::span<const le<std::uint32_t>> ids() const noexcept {
    std::size_t count = 0;
    while (count != nsid.size() && nsid[count] != 0U) ++count;
    return std::span{nsid}.first(count);
  }
};
static_assert(WireStruct<namespace_list> && sizeof(namespace_list) == 4096);
static_assert(offsetof(namespace_list, nsid) == 0);

// Controllers, CNS 12h and 13h, and what Namespace Attachment is given.
struct controller_list {
  le<std::uint16_t> count;
  std::array<le<std::uint16_t>, 2047> cntlid;  // ascending

  // The ids in the list; a count beyond the list's capacity is reduced to it.
  [[nodiscard]] constexpr std::span<const le<std::uint16_t>> ids() const noexcept {
    return std::span{cntlid}.first(count < cntlid.size() ? count.get() : cntlid.size());
  }
};
static_assert(WireStruct<controller_list> && sizeof(controller_list) == 4096);
static_assert(offsetof(controller_list, count) == 0 && offsetof(controller_list, cntlid) == 2);

// Namespace Identification Descriptors, CNS 03h: each is this header and `nidl` bytes, one after
// the other; nidl 0 ends the list.
enum class namespace_id_type : std::uint8_t { eui64 = 1, nguid = 2, uuid = 3, command_set = 4 };

struct namespace_id_descriptor {
  namespace_id_type nidt;
  std::uint8_t nidl;  // 8, 16, 16, 1 bytes
  std::uint8_t reserved2[2];
};
static_assert(WireStruct<namespace_id_descriptor> && sizeof(namespace_id_descriptor) == 4);
static_assert(offsetof(namespace_id_descriptor, nidt) == 0 &&
              offsetof(namespace_id_descriptor, nidl) == 1 &&
              offsetof(namespace_id_descriptor, reserved2) == 2);

// The identifier of type `wanted` among the descriptors in `page`, or an empty span. A descriptor
// that runs over the page's end ends the search, as does a length of 0.
[[nodiscard]] constexpr std::span<const std::byte> find_namespace_id(
    std::span<const std::byte> page, namespace_id_type wanted) noexcept {
  constexpr std::size_t header = sizeof(namespace_id_descriptor);
  while (page.size() >= header) {
    const auto type = static_cast<namespace_id_type>(page[0]);
    const auto length = static_cast<std::size_t>(page[1]);
    if (length == 0 || length > page.size() - header) break;
    if (type == wanted) return page.subspan(header, length);
    page = page.subspan(header + length);
  }
  return {};
}

// Primary Controller Capabilities, CNS 14h: the queue (vq) and interrupt (vi) resources that a
// physical function shares with its virtual functions.
struct primary_controller_capabilities {
  le<std::uint16_t> cntlid;
  le<std::uint16_t> portid;
  std::uint8_t crt;
  std::uint8_t reserved5[27];
  le<std::uint32_t> vqfrt;   // flexible resources in all
  le<std::uint32_t> vqrfa;   // of them, assigned to secondary controllers
  le<std::uint16_t> vqrfap;  // of them, allocated to the primary controller
  le<std::uint16_t> vqprt;   // private to the primary controller
  le<std::uint16_t> vqfrsm;  // most that one secondary controller can have
  le<std::uint16_t> vqgran;  // preferred granularity
  std::uint8_t reserved48[16];
  le<std::uint32_t> vifrt;
  le<std::uint32_t> virfa;
  le<std::uint16_t> virfap;
  le<std::uint16_t> viprt;
  le<std::uint16_t> vifrsm;
  le<std::uint16_t> vigran;
  std::uint8_t reserved80[4016];

  static constexpr field<0> crt_vq{};
  static constexpr field<1> crt_vi{};
};
static_assert(WireStruct<primary_controller_capabilities> &&
              sizeof(primary_controller_capabilities) == 4096);
static_assert(offsetof(primary_controller_capabilities, cntlid) == 0 &&
              offsetof(primary_controller_capabilities, portid) == 2 &&
              offsetof(primary_controller_capabilities, crt) == 4 &&
              offsetof(primary_controller_capabilities, reserved5) == 5 &&
              offsetof(primary_controller_capabilities, vqfrt) == 32 &&
              offsetof(primary_controller_capabilities, vqrfa) == 36 &&
              offsetof(primary_controller_capabilities, vqrfap) == 40 &&
              offsetof(primary_controller_capabilities, vqprt) == 42);
static_assert(offsetof(primary_controller_capabilities, vqfrsm) == 44 &&
              offsetof(primary_controller_capabilities, vqgran) == 46 &&
              offsetof(primary_controller_capabilities, reserved48) == 48 &&
              offsetof(primary_controller_capabilities, vifrt) == 64 &&
              offsetof(primary_controller_capabilities, virfa) == 68 &&
              offsetof(primary_controller_capabilities, virfap) == 72 &&
              offsetof(primary_controller_capabilities, viprt) == 74 &&
              offsetof(primary_controller_capabilities, vifrsm) == 76);
static_assert(offsetof(primary_controller_capabilities, vigran) == 78 &&
              offsetof(primary_controller_capabilities, reserved80) == 80);

// Secondary Controller List, CNS 15h, and its entry.
struct secondary_controller_entry {
  le<std::uint16_t> scid;
  le<std::uint16_t> pcid;
  std::uint8_t scs;
  std::uint8_t reserved5[3];
  le<std::uint16_t> vfn;  // number of the virtual function, from 1
  le<std::uint16_t> nvq;  // queue pairs, the admin pair included
  le<std::uint16_t> nvi;
  std::uint8_t reserved14[18];

  static constexpr field<0> online{};  // in scs
};
static_assert(WireStruct<secondary_controller_entry> && sizeof(secondary_controller_entry) == 32);
static_assert(offsetof(secondary_controller_entry, scid) == 0 &&
              offsetof(secondary_controller_entry, pcid) == 2 &&
              offsetof(secondary_controller_entry, scs) == 4 &&
              offsetof(secondary_controller_entry, reserved5) == 5 &&
              offsetof(secondary_controller_entry, vfn) == 8 &&
              offsetof(secondary_controller_entry, nvq) == 10 &&
              offsetof(secondary_controller_entry, nvi) == 12 &&
              offsetof(secondary_controller_entry, reserved14) == 14);

struct secondary_controller_list {
  std::uint8_t count;
  std::uint8_t reserved1[31];
  std::array<secondary_controller_entry, 127> entry;  // ascending by scid

  // The entries in the list; a count beyond the list's capacity is reduced to it.
  [[nodiscard]] constexpr std::span<const secondary_controller_entry> entries() const noexcept {
    return std::span{entry}.first(count < entry.size() ? count : entry.size());
  }
};
static_assert(WireStruct<secondary_controller_list> && sizeof(secondary_controller_list) == 4096);
static_assert(offsetof(secondary_controller_list, count) == 0 &&
              offsetof(secondary_controller_list, reserved1) == 1 &&
              offsetof(secondary_controller_list, entry) == 32);

}  // namespace phasebit::nvme
