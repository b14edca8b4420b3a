// run.json: what ran, from what, where, and how it ended. Written at the start and again at the end, each time as a
// whole.
//
//   RunRecord record = StartRunRecord("llama3/debug", digest, argv);   // host, time, process
//   record.experiment_json = ResolvedJson(experiment);
//   TITAN_RETURN_IF_ERROR(WriteRunRecord(out + "/run.json", record));
//   ...
//   FinishRunRecord(record, exit_code, "done");
//   TITAN_RETURN_IF_ERROR(WriteRunRecord(out + "/run.json", record));

#ifndef TITAN_METRICS_RUN_RECORD_H_
#define TITAN_METRICS_RUN_RECORD_H_

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace titan {

// One start of the trainer in a run directory. Times are UTC, RFC 3339.
struct RunSession {
  std::string digest;                  // run id: SHA-256 of the bundle's MANIFEST
  std::vector<std::string> overrides;  // "a.b=v", as given
  std::vector<std::string> command;
  std::string host;
  int64_t pid = 0;
  std::string start_time;
  std::optional<std::string> end_time;       // unset while it runs, or when it was killed
  std::optional<int> exit_code;              // DESIGN's list: 0 done, 2 usage, 3 memory, 4 non-finite, 75 preempted
  std::string ending;                        // "done", or why it stopped
  std::optional<int64_t> resumed_from_step;  // unset for a fresh start
  std::optional<int64_t> last_step;
  std::optional<double> final_loss;
};

// A checkpoint that a session went on from.
struct RunAncestor {
  int64_t step = 0;
  std::string digest;  // run id of the session that wrote it; empty if it does not say
  std::string path;
};

struct RunRecord {
  std::string name;                             // of the experiment, such as "llama3/debug"
  RunSession session;                           // the newest
  std::vector<RunSession> previous_sessions;    // of the same directory, oldest first
  std::vector<RunAncestor> lineage;             // what the sessions went on from, oldest first
  std::map<std::string, std::string> versions;  // of what it was built from: {"torch": "2.11.0"}
  std::map<std::string, std::string>
      facts;                    // that a report shows: {"device": "cpu, 2 threads", "parameters": "6,163,712"}
  std::string experiment_json;  // the whole resolved experiment, overrides included; a JSON object
};

// A record of a session that starts now, on this machine.
RunRecord StartRunRecord(std::string name, std::string digest, std::vector<std::string> command);
// Sets end_time to now, exit_code and ending.
void FinishRunRecord(RunRecord& record, int exit_code, std::string ending);

// Sessions of the record that `path` holds become `record`'s previous ones, and its lineage the beginning of
// `record`'s; nothing happens if there is no such file.
absl::Status ContinueRunRecord(const std::string& path, RunRecord& record);

absl::Status WriteRunRecord(const std::string& path, const RunRecord& record);
// DataLoss with the reason if it is not a run record.
absl::StatusOr<RunRecord> ReadRunRecord(const std::string& path);

}  // namespace titan

#endif  // TITAN_METRICS_RUN_RECORD_H_
