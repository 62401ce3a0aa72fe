#!/bin/sh
# Makes the files that deploy/k8s/fleet/kustomization.yaml names: the truth, users, passwords, URLs, and empty files for
# settings. What is there already is kept, but for the truth and what follows from it. FLEET is another such folder,
# TRUTH_PATH another truth. No cluster is asked, and no bus.
set -eu
umask 077

fleet=${FLEET:-deploy/k8s/fleet}
truth=${TRUTH_PATH:-truth.json}

for name in settings notifications massive vexy_ai sources board medic; do
    [ -e "$fleet/$name.env" ] || : >"$fleet/$name.env"
done

# the keys of signals: to what it asks outside, a line an origin, and what signs its log
mkdir -p "$fleet/signals"
for name in keys log.key; do
    [ -e "$fleet/signals/$name" ] || : >"$fleet/signals/$name"
done

# where the buses are for this shell is not where they are for the cluster
unset SYSTEM_REDIS_URL SYSTEM_REDIS_URL_FILE MARKET_REDIS_URL MARKET_REDIS_URL_FILE

# what users may touch depends on these two
setting() { sed -n "s/^$1=//p" "$fleet/settings.env"; }
TRUTH_REDIS_KEY=$(setting TRUTH_REDIS_KEY) ALERT_CHANNEL=$(setting ALERT_CHANNEL)
export TRUTH_REDIS_KEY ALERT_CHANNEL

.venv/bin/marketswarm acl --make-secrets --truth "$truth" \
    --secrets "$fleet/secrets" --out "$fleet/acl" --urls "$fleet/urls" ${NO_DEFAULT:+--no-default} >/dev/null
# for a truth with an archive, the password of its PostgreSQL
TRUTH_PATH=$truth ACCESS_DIR=$fleet .venv/bin/python -m bootstrap.database
cp "$truth" "$fleet/truth.json"

echo "$fleet has what the cluster needs; keep its secrets out of git. Next:"
case $fleet in
*/market) echo "  kubectl apply -k deploy/k8s/overlays/market" ;;
*) echo "  kubectl apply -k deploy/k8s/overlays/single-node" ;;
esac
