#!/usr/bin/env bash
# Makes a Slurm cluster of this one Debian machine, runs a study on it, kills a job half-way, drains the node for a
# while, and sees the study complete; fails if nothing was killed or what was killed did not run again.
# Needs root, `make test` or `make figures` run once (for .venv), and apt. Usage: workflow/slurm_smoke.sh [study.yaml]
set -euo pipefail
cd "$(dirname "$0")/.."
study=$(realpath "${1:-tests/e2e/smoke.yaml}")
PATH="$(realpath "${VENV:-.venv}")/bin:$PATH"
export PATH OMP_NUM_THREADS=1 SLURM_CONF=/etc/slurm/slurm.conf

command -v slurmctld munged > /dev/null || apt-get install --yes slurm-wlm munge > /dev/null
cores=$(nproc)
memory=$(awk '/MemTotal/ {print int($2 / 1024 * 0.9)}' /proc/meminfo)
host=$(hostname --short)
mkdir -p /etc/slurm /run/munge /var/spool/slurmctld /var/spool/slurmd
cat > "$SLURM_CONF" <<CONFIGURATION
ClusterName=one
SlurmctldHost=$host(127.0.0.1)
AuthType=auth/munge
SlurmUser=root
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
ReturnToService=2
StateSaveLocation=/var/spool/slurmctld
SlurmdSpoolDir=/var/spool/slurmd
MinJobAge=3600
NodeName=$host NodeAddr=127.0.0.1 CPUs=$cores RealMemory=$memory
PartitionName=main Nodes=$host Default=YES
CONFIGURATION
chown munge: /run/munge
pgrep -x munged > /dev/null || runuser -u munge -- munged
pgrep -x slurmctld > /dev/null || slurmctld
pgrep -x slurmd > /dev/null || slurmd
timeout 60 bash -c 'until sinfo --noheader --format=%t | grep -q idle; do sleep 1; done'

disturb() {
    local job
    for _ in $(seq 600); do
        job=$(squeue --noheader --states=RUNNING --format="%i %k" | awk '/rule_tune/ {print $1; exit}')
        if [ -n "$job" ]; then
            sleep 8
            echo "killing Slurm job $job while it tunes"
            scancel --signal=KILL --full "$job"
            echo "draining the node for 20 s"
            scontrol update NodeName="$host" State=DRAIN Reason=smoke
            sleep 20
            scontrol update NodeName="$host" State=RESUME
            return
        fi
        sleep 1
    done
    echo "no tuning job ran within 600 s, expected one to kill"
    return 1
}
disturb &
disturber=$!
timeout 2400 python -m snakemake --profile workflow/profiles/slurm --config study="$study" device=cpu cores=1 \
    --default-resources slurm_partition=main slurm_account=main \
    --slurm-status-command squeue --slurm-init-seconds-before-status-checks 5
wait "$disturber"
squeue --states=all --format="%.6i %.12T %.10M %k"
failed=$(squeue --states=all --noheader --format="%T %k" | awk '/rule_tune/ && $1 != "COMPLETED"' | wc -l)
echo "$failed tuning job ended early and the study is complete"
[ "$failed" -ge 1 ]
