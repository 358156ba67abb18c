// SPDX-License-Identifier: BSL-1.0
#include <phasebit/nvme/spec/admin_commands.hpp>
#include <phasebit/nvme/spec/async_event.hpp>
#include <phasebit/nvme/spec/completion.hpp>
#include <phasebit/nvme/spec/identify.hpp>
#include <phasebit/nvme/spec/identify_lists.hpp>
#include <phasebit/nvme/spec/management_commands.hpp>
#include <phasebit/nvme/spec/nvm_commands.hpp>
#include <phasebit/nvme/spec/protection.hpp>
#include <phasebit/nvme/spec/range_commands.hpp>
#include <phasebit/nvme/spec/registers.hpp>
#include <phasebit/nvme/spec/status_text.hpp>

#include <cstddef>
#include <cstdint>
#include <span>

using namespace phasebit;
using namespace phasebit::nvme;

extern "C" void use_read(submission_entry* slot, std::uint64_t lba, std::uint32_t blocks,
                         std::uint16_t id) {
  *slot = nvm::read({.nsid = 1, .lba = lba, .blocks = blocks});
  slot->set_command_id(id);
}

extern "C" std::uint32_t use_block_range(const submission_entry* entry) {
  return block_range_of(*entry).blocks;
}

extern "C" void use_queues(submission_entry* slots, std::uint16_t qid, std::uint32_t entries) {
  slots[0] = admin::create_io_cq({.qid = qid, .entries = entries, .vector = qid});
  slots[1] = admin::create_io_sq({.qid = qid, .entries = entries, .cqid = qid});
  slots[2] = admin::set_features({.cdw11 = number_of_queues::of(entries, entries).raw});
  slots[3] = admin::get_log_page({.lid = log_page_id::health, .bytes = sizeof(health_log)});
  slots[4] = admin::virtualization_management({.controller = qid, .count = qid});
  slots[5] = nvm::dataset_management({.nsid = 1, .ranges = entries, .deallocate = true});
  slots[6] = nvm::copy({.nsid = 1, .ranges = entries});
}

extern "C" std::size_t use_status(const completion_entry* entry, const char** sentence) {
  const auto s = text(entry->status());
  *sentence = s.data();
  return s.size();
}

extern "C" std::size_t use_identify(const identify_controller* id, const identify_namespace* ns) {
  return text_of(id->sn).size() + ns->block_bytes() +
         static_cast<std::size_t>(id->max_transfer_bytes(4096) >> 12);
}

extern "C" void use_text(identify_controller* id, const char* model, std::size_t size) {
  set_text(id->mn, {model, size});
}

extern "C" std::size_t use_lists(const namespace_list* ids, const secondary_controller_list* list,
                                 const std::byte* page) {
  return ids->ids().size() + list->entries().size() +
         find_namespace_id(std::span{page, 4096}, namespace_id_type::nguid).size();
}

extern "C" std::uint64_t use_registers(std::uint64_t caps, std::uint16_t qid) {
  const cap c{caps};
  return completion_doorbell_offset(qid, c[cap::dstrd]) + c.max_page_bytes() +
         c.ready_timeout_ms() + async_event::of(error_event::invalid_doorbell_value).raw;
}

extern "C" std::uint64_t use_protection(protection64* tuple, std::uint64_t guard) {
  tuple->guard = guard;
  store_be(tuple->storage_and_reference, 6, guard);
  return load_be(tuple->storage_and_reference, 6);
}
