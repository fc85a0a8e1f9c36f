# check=error=maybe;skp=all;experimental=InvalidDefinitionDesription
FROM scratch
