// SPDX-License-Identifier: BSL-1.0
// IOMMU command rings, explored: a driver posts commands and waits, an emulated IOMMU executes
// them.
#include <doctest/doctest.h>
#include <model/command_rings.hpp>
#include <model/mutants.hpp>

using namespace model;

TEST_CASE_TEMPLATE("commands arrive once and in order, and a wait is the end of all before it",
                   Codec, iommu::vtd::command_codec, iommu::amd::command_codec,
                   iommu::smmuv3::command_codec, iommu::riscv::command_codec) {
  holds("ring of 2, waits that store (threads)",
        command_ring<Codec, explorer::thread_order>({2, 5, 2, true, true}));
  holds("ring of 2, waits that store (device)",
        command_ring<Codec, explorer::device_order>({2, 5, 2, true, true}));
  holds("ring of 4, waits that store (device)",
        command_ring<Codec, explorer::device_order>({4, 6, 3, true, true}));
  if (Codec::sync_by_head) {
    holds("ring of 2, waits by the head (device)",
          command_ring<Codec, explorer::device_order>({2, 5, 2, false, true}));
    holds("ring of 4, waits by the head (device)",
          command_ring<Codec, explorer::device_order>({4, 6, 3, false, true}));
  }
}

TEST_CASE("mutants of command rings") {
  const ring_setup setup{4, 4, 2, true, true};
  auto between_threads = command_ring<iommu::riscv::command_codec, explorer::thread_order>(setup);
  auto with_device = command_ring<iommu::riscv::command_codec, explorer::device_order>(setup);
  // SMMUv3 uses every entry of its ring, so that a place is written again as soon as it is free.
  auto by_head =
      command_ring<iommu::smmuv3::command_codec, explorer::device_order>({2, 4, 2, false, true});
  auto device = [&](const std::string& name, const mutation& fault, caught_by expected) {
    with_fault(name, {fault}, expected, with_device);
  };
  const std::string here = "command_rings.hpp";
  device("entries before tail", {operation::doorbell, "producer.hpp", "submit", effect::unordered},
         all_but_x86);
  device("tail before entries", {operation::after_load, "consumer.hpp", "poll", effect::unordered},
         all_but_x86);
  device("what was carried out before the completion word",
         {operation::store, "consumer.hpp", "store_completion", effect::unordered}, all_but_x86);
  device("completion word before what was carried out",
         {operation::after_load, "producer.hpp", "done", effect::unordered}, all_but_x86);
  with_fault("completion word before what was carried out (threads)",
             {{operation::load, "producer.hpp", "done", effect::unordered}}, all_but_x86,
             between_threads);
  with_fault("what was read before the head (device)",
             {{operation::store, here, "", effect::unordered}}, all_but_x86, by_head);
  with_fault("head before new entries",
             {{operation::after_load, here, "head_register", effect::unordered}}, all_but_x86,
             by_head);
}
