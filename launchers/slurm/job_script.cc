#include "launchers/slurm/job_script.h"

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "titan/config/experiment.pb.h"

namespace titan {
namespace {

// What stays the same for all experiments. DEVICES is the number of tasks on a machine.
constexpr char kBody[] = R"(
if [ $# -lt 2 ]; then
  echo "usage: sbatch [OPTION...] SCRIPT BUNDLE OUT [TRAINER_FLAG...]" >&2
  exit 2
fi
bundle=$1 out=$2
shift 2
case $bundle in
  /*) ;;
  *) echo "BUNDLE must be an absolute path: $bundle" >&2; exit 2 ;;
esac
case $out in
  *[%\\]*) echo "srun does not take a path with % or \\ as it is; choose another OUT: $out" >&2; exit 2 ;;
  /*) ;;
  *) echo "OUT must be an absolute path: $out" >&2; exit 2 ;;
esac
mkdir -p -- "$out/logs" || exit 1

# Rank 0 listens on the first machine. Its port follows from the job's number, and lies below those that Linux gives to
# programs that do not ask for one.
host=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
port=$((20000 + SLURM_JOB_ID % 10000))

if [ -z "${OMP_NUM_THREADS-}" ]; then
  OMP_NUM_THREADS=$((SLURM_CPUS_ON_NODE / DEVICES))
  if [ "$OMP_NUM_THREADS" -lt 1 ]; then OMP_NUM_THREADS=1; fi
  export OMP_NUM_THREADS
fi

# After a failure the others notice by themselves, say what they miss, and end; srun ends those that do not in a minute.
srun --mpi=none --cpu-bind=none --export=ALL --kill-on-bad-exit=0 --wait=60 --open-mode=append \
  --output="$out/logs/rank-%t.log" "$bundle/run" --out "$out" --rendezvous "$host:$port" "$@"
code=$?
)";

constexpr char kRequeue[] = R"(
# 75: every rank was told to stop, and a checkpoint is on disk. This ends the script if Slurm has not done so yet.
if [ $code = 75 ]; then scontrol requeue "$SLURM_JOB_ID"; fi
)";

constexpr char kEnd[] = R"(
if [ $code != 0 ]; then echo "ended with exit code $code; what each rank said is in $out/logs/rank-R.log" >&2; fi
exit $code
)";

// Slurm shows it in lists, and the shell never sees it.
std::string JobName(std::string name) {
  for (char& c : name) {
    if (!absl::ascii_isalnum(c) && c != '.' && c != '_') c = '-';
  }
  return name;
}

}  // namespace

std::string JobScript(const std::string& name, const config::Experiment& experiment) {
  const config::Cluster& cluster = experiment.cluster();
  const bool has_gpus = cluster.accelerator() != config::Cluster::ACCELERATOR_CPU;
  const bool can_continue = experiment.checkpoint().enable();
  std::string script = absl::StrCat(
      "#!/bin/bash\n# Trains ", JobName(name), " under Slurm, one task for each rank:\n",
      "#\n#   sbatch [OPTION...] SCRIPT BUNDLE OUT [TRAINER_FLAG...]\n#\n",
      "# BUNDLE is the bundle's directory, OUT the run directory; both are absolute and on a file system that all\n",
      "# machines share.\n",  //
      "#SBATCH --job-name=", JobName(name), "\n#SBATCH --nodes=", cluster.num_nodes(),
      "\n#SBATCH --ntasks-per-node=", cluster.devices_per_node(), "\n");
  if (has_gpus) absl::StrAppend(&script, "#SBATCH --gres=gpu:", cluster.devices_per_node(), "\n");
  absl::StrAppend(&script, "#SBATCH --exclusive\n#SBATCH --open-mode=append\n");
  // Two minutes before the time limit the ranks write a checkpoint, as they do when the job is preempted.
  absl::StrAppend(&script, can_continue ? "#SBATCH --requeue\n#SBATCH --signal=TERM@120\n"
                                        : "# checkpoint.enable is false: what is stopped cannot continue.\n"
                                          "#SBATCH --no-requeue\n");
  absl::StrAppend(&script, absl::StrReplaceAll(kBody, {{"DEVICES", absl::StrCat(cluster.devices_per_node())}}));
  absl::StrAppend(&script, can_continue ? kRequeue : "", kEnd);
  return script;
}

std::string ShellQuoted(const std::string& word) {
  bool is_plain = !word.empty();
  for (const char c : word)
    is_plain &= absl::ascii_isalnum(c) || std::string_view("-_./=:,+@%").find(c) != std::string_view::npos;
  return is_plain ? word : absl::StrCat("'", absl::StrReplaceAll(word, {{"'", "'\\''"}}), "'");
}

}  // namespace titan
