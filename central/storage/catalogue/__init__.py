"""The platform's tables: projects, sites, gateways, certificates, points, keys, logins."""

from central.storage.catalogue.certificates import (
    Certificate,
    find_certificate,
    identify,
    refused_fingerprints,
    register_certificate,
)
from central.storage.catalogue.codes import issue_code, redeem_code
from central.storage.catalogue.gateways import (
    Gateway,
    GatewayRow,
    create_gateway,
    find_gateway,
    list_gateways,
    note_hello,
    note_seen,
    revoke_gateway,
)
from central.storage.catalogue.keys import Key, create_key, find_key, revoke_key
from central.storage.catalogue.logins import (
    Session,
    end_session,
    find_session,
    issue_login,
    redeem_login,
)
from central.storage.catalogue.points import (
    PointRow,
    find_point_set,
    keep_point_set,
    list_points,
    points_by_id,
    points_by_key,
)
from central.storage.catalogue.projects import (
    CatalogueError,
    Project,
    create_project,
    find_project,
    list_projects,
)
from central.storage.catalogue.sites import Site, create_site, list_sites

__all__ = [
    "CatalogueError",
    "Certificate",
    "Gateway",
    "GatewayRow",
    "Key",
    "PointRow",
    "Project",
    "Session",
    "Site",
    "create_gateway",
    "create_key",
    "create_project",
    "create_site",
    "end_session",
    "find_certificate",
    "find_gateway",
    "find_key",
    "find_point_set",
    "find_project",
    "find_session",
    "identify",
    "issue_code",
    "issue_login",
    "keep_point_set",
    "list_gateways",
    "list_points",
    "list_projects",
    "list_sites",
    "note_hello",
    "note_seen",
    "points_by_id",
    "points_by_key",
    "redeem_code",
    "redeem_login",
    "refused_fingerprints",
    "register_certificate",
    "revoke_gateway",
    "revoke_key",
]
