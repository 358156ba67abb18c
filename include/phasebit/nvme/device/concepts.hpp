// SPDX-License-Identifier: BSL-1.0
// What a controller asks of the program that it runs in.
#pragma once

#include <phasebit/block/async_media.hpp>

#include <concepts>
#include <cstdint>

namespace phasebit::nvme::device {

// Receives the controller's interrupts. raise(vector) is called after the completion queue entries
// that it announces are visible, once per vector and round however many they are; `vector` is below
// settings::interrupt_vectors. Masking in the MSI-X table is the sink's business.
template <class T>
concept InterruptSink = requires(T& sink, std::uint16_t vector) {
  { sink.raise(vector) } noexcept;
};

// Raises nothing: the host polls.
struct no_interrupts {
  static constexpr void raise(std::uint16_t) noexcept {}
};
static_assert(InterruptSink<no_interrupts>);

// The namespaces of a controller. find(nsid) gives the media of an active namespace, null for every
// other number, whichever it is; highest_nsid() is the Identify field NN and never changes.
// Active namespaces may change between two calls of the controller's poll(), not during one.
// Media that complete later are polled through for_each_media(visit), which visits at least every
// media that may have operations in flight, active or not.
template <class T>
concept NamespaceSet =
    requires(T& set, std::uint32_t nsid) {
      typename T::media_type;
      requires block::AnyBlockMedia<typename T::media_type>;
      { set.find(nsid) } noexcept -> std::same_as<typename T::media_type*>;
      { set.highest_nsid() } noexcept -> std::same_as<std::uint32_t>;
    } && (block::BlockMedia<typename T::media_type> ||
          requires(T& set, void (&visit)(typename T::media_type&) noexcept) {
            { set.for_each_media(visit) } noexcept;
          });

}  // namespace phasebit::nvme::device
