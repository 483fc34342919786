#!/usr/bin/env bash
# Makes a Slurm cluster of two nodes on this one Debian machine, runs a study on it, loses a node that tunes a model half-way,
# brings it back a minute later, and sees the study complete; fails if no model was lost or what was lost did not run again.
# Needs root, `make test` or `make figures` run once (for .venv), and apt. Usage: workflow/slurm_smoke.sh [study.yaml]
set -euo pipefail
cd "$(dirname "$0")/.."
study=$(realpath "${1:-tests/e2e/smoke.yaml}")
PATH="$(realpath "${VENV:-.venv}")/bin:$PATH"
export PATH OMP_NUM_THREADS=1 SLURM_CONF=/etc/slurm/slurm.conf

command -v slurmctld munged > /dev/null || apt-get install --yes slurm-wlm munge > /dev/null
cores=$(($(nproc --all) / 2))
memory=$(awk '/MemTotal/ {print int($2 / 1024 * 0.45)}' /proc/meminfo)
host=$(hostname --short)
mkdir -p /etc/slurm /run/munge /var/spool/slurmctld /var/spool/slurmd
cat > "$SLURM_CONF" <<CONFIGURATION
ClusterName=two
SlurmctldHost=$host(127.0.0.1)
AuthType=auth/munge
SlurmUser=root
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
ReturnToService=2
SlurmdTimeout=15
StateSaveLocation=/var/spool/slurmctld
SlurmdSpoolDir=/var/spool/slurmd/%n
SlurmdPidFile=/run/slurmd.%n.pid
MinJobAge=3600
NodeName=first NodeHostname=$host NodeAddr=127.0.0.1 Port=17001 CPUs=$cores RealMemory=$memory
NodeName=second NodeHostname=$host NodeAddr=127.0.0.1 Port=17002 CPUs=$cores RealMemory=$memory
PartitionName=main Nodes=first,second Default=YES
CONFIGURATION
chown munge: /run/munge
pgrep -x munged > /dev/null || runuser -u munge -- munged
pgrep -x slurmctld > /dev/null || slurmctld
for node in first second; do
    mkdir -p "/var/spool/slurmd/$node"
    pgrep -f "slurmd -N $node" > /dev/null || slurmd -N "$node"
done
timeout 60 bash -c 'until [ "$(sinfo --Node --noheader --format=%t | grep -c idle)" = 2 ]; do sleep 1; done'

lose() {  # a node, as if its power went
    pkill -KILL -f "slurmd -N $1" || true
    for job in $(squeue --noheader --nodelist="$1" --format=%i); do
        pkill -KILL -f "slurmstepd: \[$job" || true
    done
    grep --files-with-matches --null-data --text "^SLURMD_NODENAME=$1\$" /proc/[0-9]*/environ 2> /dev/null |
        cut --delimiter=/ --fields=3 | xargs --no-run-if-empty kill -KILL 2> /dev/null || true
}

disturb() {
    local job node
    for _ in $(seq 600); do
        read -r job node < <(squeue --noheader --states=RUNNING --format="%i %N %k" | awk '/rule_tune/ {print $1, $2; exit}') || true
        if [ -n "${job:-}" ]; then
            sleep 8
            echo "losing node $node while its Slurm job $job tunes"
            lose "$node"
            echo "$job" > "$lost"
            sleep 60
            echo "node $node comes back"
            slurmd -N "$node"
            return
        fi
        sleep 1
    done
    echo "no tuning job ran within 600 s, expected one to lose"
    return 1
}
lost=$(mktemp)
disturb &
disturber=$!
timeout 2400 python -m snakemake --profile workflow/profiles/slurm --config study="$study" device=cpu cores=1 \
    --default-resources slurm_partition=main slurm_account=main \
    --slurm-status-command squeue --slurm-init-seconds-before-status-checks 5
wait "$disturber"
squeue --states=all --format="%.6i %.12T %.10M %.8N %k"
scontrol show job "$(cat "$lost")" | grep --quiet --extended-regexp "Restarts=[1-9]|JobState=NODE_FAIL"
echo "the job of the lost node ran again and the study is complete"
