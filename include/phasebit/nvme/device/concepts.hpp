// SPDX-License-Identifier: BSL-1.0
// The requirements of a controller on the program that it runs in.
#pragma once

#include <phasebit/block/async_media.hpp>
#include <phasebit/pcie/device/interrupt_sink.hpp>

#include <concepts>
#include <cstdint>

namespace phasebit::nvme::device {

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
