# Keycloak's distribution from Maven Central, for the parts that start it: sets `version` and `home`.
version=26.4.5
dir="$PWD/target/keycloak"
home="$dir/keycloak-$version"
if ! command -v mvn >/dev/null 2>&1 || ! command -v unzip >/dev/null 2>&1; then
  (apt-get update -qq && apt-get install -y -qq maven openjdk-17-jre-headless unzip) >/dev/null
fi
if [ ! -x "$home/bin/kc.sh" ]; then
  mkdir -p "$dir"
  mvn -q -B dependency:copy -Dartifact="org.keycloak:keycloak-quarkus-dist:$version:zip" -DoutputDirectory="$dir" >/dev/null
  unzip -q "$dir/keycloak-quarkus-dist-$version.zip" -d "$dir"
fi
echo "keycloak $version"
