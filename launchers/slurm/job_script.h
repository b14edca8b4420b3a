// The batch script with which Slurm runs an experiment: one task for each rank, on the machines of its cluster.
//
//   sbatch [OPTION...] SCRIPT BUNDLE OUT [TRAINER_FLAG...]
//
// Paths and flags are arguments of the script, never part of its text.

#ifndef TITAN_LAUNCHERS_SLURM_JOB_SCRIPT_H_
#define TITAN_LAUNCHERS_SLURM_JOB_SCRIPT_H_

#include <string>

namespace titan::config {
class Experiment;
}

namespace titan {

// `name` is the experiment's, such as llama3/debug.
std::string JobScript(const std::string& name, const config::Experiment& experiment);

// `word` as a shell reads it back, quoted if need be.
std::string ShellQuoted(const std::string& word);

}  // namespace titan

#endif  // TITAN_LAUNCHERS_SLURM_JOB_SCRIPT_H_
