#!/usr/bin/env bash
# A SLURM cluster of this one machine, for tests: loopback only, no systemd, no control groups, no accounting.
#
#   apt-get install -y --no-install-recommends slurm-wlm munge
#   cluster.sh up FOLDER PORT      (root; takes PORT and PORT + 1; all state is in FOLDER)
#   cluster.sh down FOLDER
#
# The plugin removes every SLURM_* variable before it submits, SLURM_CONF too, so the configuration must be where SLURM
# looks by default: /etc/slurm/slurm.conf becomes a link into FOLDER, unless this machine has one already.
set -euo pipefail
action=${1:?up or down} folder=${2:?folder for the state}
conf=/etc/slurm/slurm.conf

up() {
    local port=${1:?port} host
    host=$(hostname -s)
    if [ -e $conf ] || [ -L $conf ]; then
        echo "$conf exists: this machine has a SLURM of its own" >&2
        return 3
    fi
    mkdir -p "$folder"/{state,spool,log,munge} /etc/slurm
    chmod 755 "$folder"
    chmod 711 "$folder/munge"
    head -c 1024 /dev/urandom >"$folder/munge/key"
    chmod 400 "$folder/munge/key"
    munged --force --num-threads 2 --key-file "$folder/munge/key" --socket "$folder/munge/socket" \
        --pid-file "$folder/munged.pid" --log-file "$folder/log/munged.log" --seed-file "$folder/munge/seed"
    # Without control groups memory is watched by polling; such a job then ends as FAILED.
    cat >"$folder/slurm.conf" <<CONF
ClusterName=xrmflowtest
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=$port
SlurmdPort=$((port + 1))
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket=$folder/munge/socket
CredType=cred/munge
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/slurmd.pid
SlurmctldLogFile=$folder/log/slurmctld.log
SlurmdLogFile=$folder/log/slurmd.log
ProctrackType=proctrack/pgid
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=2,bf_interval=2,default_queue_depth=500
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=1
JobAcctGatherParams=OverMemoryKill
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/filetxt
JobCompLoc=$folder/log/jobs.txt
PropagateResourceLimits=NONE
SlurmdParameters=config_overrides
ReturnToService=2
MinJobAge=300
KillWait=10
OverTimeLimit=0
NodeName=$host NodeAddr=127.0.0.1 CPUs=8 RealMemory=16000 State=UNKNOWN
PartitionName=all Nodes=$host Default=YES MaxTime=INFINITE DefaultTime=10 State=UP
CONF
    ln -s "$folder/slurm.conf" $conf
    slurmctld
    slurmd -N "$host"
    for _ in $(seq 150); do
        [ "$(sinfo --noheader --format %t 2>/dev/null)" = idle ] && return 0
        sleep 0.2
    done
    tail -n 20 "$folder"/log/*.log >&2
    return 1
}

down() {
    if [ "$(readlink $conf)" = "$folder/slurm.conf" ]; then
        scancel --me || true
        rm $conf
    fi
    for name in slurmd slurmctld munged; do
        [ -s "$folder/$name.pid" ] || continue
        pid=$(cat "$folder/$name.pid")
        kill "$pid" 2>/dev/null || continue
        for _ in $(seq 50); do
            kill -0 "$pid" 2>/dev/null || break
            sleep 0.2
        done
        kill -9 "$pid" 2>/dev/null || true
    done
}

"$action" "${@:3}"
