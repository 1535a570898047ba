"""Policies, protected routes and applications -> what authentik must hold.

    group ──────────────► binding ──► attachment to the outpost
    policy (expression) ──►  ▲             ▲
    provider ───────────► application ─────┘
       ▲
    stage ──► flow_binding ──► flow          where a second factor is asked for

Everybody is let in where nothing is bound, and the server takes a binding away with its group. So
every restricted application is bound to one more policy that says no: in engine mode `any` it lets
nobody in, and it is still there when the last group has gone.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from hecate.events import ACTIONS
from hecate.model.authentik import Authentik
from hecate.model.estate import Estate
from hecate.model.guards import Guard, slug_of
from hecate.model.identity import AuthPolicy
from hecate.resource import Resource, Snapshot

Spec = dict[str, Any]
CLOSED = "closed"  # the policy that says no
REQUIRED = "required"  # an attribute of which only that it is there counts
EXPRESSION = "events:"  # before a reference: not the secret itself, but the mapping that signs with it
LAST = 1000  # order of the binding that says no: after everything that may say yes
UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


def mark(environment: str) -> str:
    """What Hecate writes into an application's publisher and the attributes of groups, users and brands."""
    return f"hecate/{environment}"


def prefix(environment: str) -> str:
    """What has no field for a mark has it in its name: providers, policies, stages, mappings, transports, rules."""
    return f"hecate/{environment}/"


def slug_prefix(environment: str) -> str:
    """The same where a name may have no slash: flows and tokens."""
    return f"hecate-{environment}-"


def compile_authentik(estate: Estate) -> list[Resource]:
    """All that guards hosts and applications, and the groups, accounts, brands and events of hecate:authentik."""
    if estate.authentik is None:
        return []
    found: dict[str, Resource] = {}
    settings = estate.authentik
    for resource in (*_directory(estate, settings), *_brands(estate, settings), *_events(estate, settings)):
        found[resource.id] = resource
    for guard in estate.guards.all:
        for resource in guarding(estate, guard):
            found.setdefault(resource.id, resource)
    return list(found.values())


def confirmed(estate: Estate, snapshot: Snapshot) -> list[str]:
    """Hosts whose whole guard stands as wanted: only these may be published."""
    if estate.authentik is None:
        return []
    return sorted(
        host
        for guard in estate.guards.all
        if guard.hosts and all(stands(resource, snapshot) for resource in guarding(estate, guard))
        for host in guard.hosts
    )


def stands(want: Resource, snapshot: Snapshot) -> bool:
    """Whether one part of a guard is there as wanted. A group of whatever making and membership serves."""
    have = snapshot.get(want.id)
    return have is not None and (want.kind == "authentik.group" or have.spec == want.spec)


def guarding(estate: Estate, guard: Guard) -> list[Resource]:
    """Everything that one application needs, in an order in which it can be made."""
    settings, environment, policy = estate.authentik, estate.environment, guard.policy
    assert settings is not None
    groups = [_group(estate, settings, name, guard.origin) for name in policy.groups]
    factor = _second_factor(environment, guard) if policy.require_mfa else []
    rules = _rules(environment, guard)
    provider = _provider(estate, settings, guard, factor)
    application = _application(environment, guard, provider)
    bindings = list(_bindings(guard, application, groups, rules))
    made = [*groups, *factor, *rules, provider, application, *bindings]
    if guard.application is None:
        needs = (provider.id, application.id, *(binding.id for binding in bindings))
        own = settings.outposts[policy.outpost].name or policy.outpost if policy.outpost else settings.outpost_name
        key = f"{own}/{provider.key}"
        made.append(Resource("authentik.attachment", key, {}, needs, guard.origin))
    return made


def _group(estate: Estate, settings: Authentik, name: str, origin: str) -> Resource:
    spec: Spec = {"mark": mark(estate.environment)}
    needs: tuple[str, ...] = ()
    if said := settings.groups.get(name):
        origin = f"hecate:authentik:groups:{name}"
        if said.members is not None:
            spec["members"] = sorted(said.members)
            needs = tuple(f"authentik.user {m}" for m in spec["members"] if m in settings.service_accounts)
        if said.attributes is not None:
            spec["attributes"] = dict(said.attributes)
    return Resource("authentik.group", name, spec, needs, origin)


def _second_factor(environment: str, guard: Guard) -> list[Resource]:
    """Asked for in an authorization flow of the policy's own: whoever is logged in already has to pass it too."""
    name = f"{prefix(environment)}{guard.policy_name}"
    stage = Resource(
        "authentik.stage",
        f"{name}/mfa",
        {
            "not_configured_action": "deny",
            "device_classes": list(guard.policy.second_factors),
            "last_auth_threshold": duration(guard.policy.session_duration),
        },
        origin=f"hecate:auth_policies:{guard.policy_name}",
    )
    slug = slug_of(f"{slug_prefix(environment)}{guard.policy_name}-mfa")
    flow = Resource(
        "authentik.flow",
        slug,
        {
            "name": name,
            "title": "Redirecting to %(app)s",
            "designation": "authorization",
            "authentication": "require_authenticated",
        },
        origin=stage.origin,
    )
    binding = Resource(
        "authentik.flow_binding", f"{slug}/{stage.key}", {"order": 10}, (flow.id, stage.id), stage.origin
    )
    return [stage, flow, binding]


def _rules(environment: str, guard: Guard) -> list[Resource]:
    """The expression policies that are bound; with attributes the groups stand in the expression too.

    Groups bound beside it would let their members in whatever their attributes; engine mode `all` would want all of
    the groups.
    """
    policy = guard.policy
    if not policy.is_restricted:
        return []
    closed = Resource("authentik.policy", f"{prefix(environment)}{CLOSED}", {"expression": "return False"})
    if not policy.attributes:
        return [closed]
    key = f"{prefix(environment)}policy/{guard.policy_name}"
    origin = f"hecate:auth_policies:{guard.policy_name}"
    return [Resource("authentik.policy", key, {"expression": expression(policy)}, origin=origin), closed]


def expression(policy: AuthPolicy) -> str:
    """Python for authentik's policy engine: every line that doesn't hold says no.

    https://docs.goauthentik.io/customize/policies/expression/
    """
    lines = []
    if policy.groups:
        lines.append(
            f"if not any(ak_is_group_member(request.user, name=name) for name in {list(policy.groups)!r}):\n"
            "    return False"
        )
    for name, value in sorted(policy.attributes.items()):
        have = f"request.user.attributes.get({name!r})"
        wanted = list(value) if isinstance(value, tuple) else [value]
        wrong = f"not {have}" if value == REQUIRED else f"{have} not in {wanted!r}"
        lines.append(f"if {wrong}:\n    return False")
    return "\n".join([*lines, "return True"])


def _provider(estate: Estate, settings: Authentik, guard: Guard, factor: list[Resource]) -> Resource:
    policy, flows = guard.policy, [r for r in factor if r.kind == "authentik.flow"]
    spec: Spec = {
        "authorization_flow": flows[0].key if flows else settings.authorization_flow,
        "invalidation_flow": settings.invalidation_flow,
        "authentication_flow": policy.flow or "",
        **_protocol(estate, guard),
    }
    key = f"{prefix(estate.environment)}{guard.name}"
    return Resource("authentik.provider", key, spec, tuple(r.id for r in factor), guard.origin)


def _protocol(estate: Estate, guard: Guard) -> Spec:
    lasts, application = duration(guard.policy.session_duration), guard.application
    if application is None:
        domain = guard.policy.domain
        return {
            "type": "proxy",
            "mode": "forward_domain" if domain else "forward_single",
            "external_host": f"https://{domain.host if domain else guard.name}",
            "cookie_domain": domain.name if domain else "",
            "access_token_validity": lasts,
            "skip_path_regex": "",  # paths without a login are Caddy's to know, and nobody's to add here
        }
    if oauth2 := application.oauth2:
        return {
            "type": "oauth2",
            "client_type": "confidential" if oauth2.client_secret else "public",
            "client_id": oauth2.client_id or guard.name,
            **({"client_secret": secret(oauth2.client_secret)} if oauth2.client_secret else {}),
            "redirect_uris": [{"matching_mode": uri.matching, "url": uri.url} for uri in oauth2.uris],
            "scopes": sorted(oauth2.scopes),
            "signing_key": oauth2.signing_key,
            "refresh_token_validity": lasts,
        }
    saml = application.saml
    assert saml, "checked by the model"
    return {
        "type": "saml",
        "acs_url": saml.acs_url,
        "audience": saml.audience,
        **({"issuer": saml.issuer} if saml.issuer else {}),
        "sp_binding": saml.binding,
        "signing_kp": saml.signing_key,
        "session_valid_not_on_or_after": lasts,
    }


def secret(reference: str, before: str = "", after: str = "") -> str:
    """A text with a secret in it, as a spec holds it: the backend puts the value there when it writes."""
    return f"{before}{{secret:{reference}}}{after}"


def _application(environment: str, guard: Guard, provider: Resource) -> Resource:
    own, domain = guard.application, guard.policy.domain
    usual = f"https://{domain.host if domain else guard.name}"
    spec = {
        "name": (own.name if own else "") or guard.name,
        "provider": provider.key,
        "policy_engine_mode": "any",
        "meta_launch_url": (own.launch_url or "") if own else usual,
        "meta_description": own.description if own else "",
        "group": own.group if own else "",
        "meta_publisher": mark(environment),
    }
    return Resource("authentik.application", guard.slug, spec, (provider.id,), guard.origin)


def _bindings(guard: Guard, application: Resource, groups: list[Resource], rules: list[Resource]) -> Iterator[Resource]:
    bound = rules if guard.policy.attributes else [*groups, *rules]
    for order, what in enumerate(bound):
        kind = what.kind.removeprefix("authentik.")
        spec = {"order": LAST if what.key.endswith(f"/{CLOSED}") else order, "enabled": True, "negate": False}
        key = f"{guard.slug}/{kind}/{what.key}"
        yield Resource("authentik.binding", key, spec, (*application.needs, application.id, what.id), guard.origin)


def duration(text: str) -> str:
    """ "8h" as authentik writes durations: "hours=8"; it answers 400 to the short form."""
    return f"{UNITS[text[-1]]}={text[:-1]}"


# Beside the guards


def _directory(estate: Estate, settings: Authentik) -> Iterator[Resource]:
    """Groups whose members stand in pillar, service accounts and their tokens."""
    for name in settings.groups:
        yield _group(estate, settings, name, f"hecate:authentik:groups:{name}")
    for username, account in settings.service_accounts.items():
        origin = f"hecate:authentik:service_accounts:{username}"
        spec = {
            "name": account.name or username,
            "type": "service_account",
            "is_active": True,
            "mark": mark(estate.environment),
        }
        user = Resource("authentik.user", username, spec, origin=origin)
        yield user
        for name, reference in account.tokens.items():
            key = f"{slug_prefix(estate.environment)}{username}-{name}"
            wanted = {"user": username, "intent": "api", "expiring": False, "key": secret(reference)}
            yield Resource("authentik.token", key, wanted, (user.id,), f"{origin}:tokens:{name}")


def _brands(estate: Estate, settings: Authentik) -> Iterator[Resource]:
    for domain, brand in settings.brands.items():
        spec = {
            "branding_title": brand.title,
            "flow_authentication": brand.flow or "",
            "flow_invalidation": brand.invalidation_flow or "",
            "mark": mark(estate.environment),
        }
        yield Resource("authentik.brand", domain, spec, origin=f"hecate:authentik:brands:{domain}")


def _events(estate: Estate, settings: Authentik) -> Iterator[Resource]:
    """Deliveries that are signed by the mapping that makes their body (hecate.events)."""
    if settings.events is None:
        return
    said, name, origin = settings.events, f"{prefix(estate.environment)}events", "hecate:authentik:events"
    signed = {"expression": secret(f"{EXPRESSION}{said.secret}")}
    mapping = Resource("authentik.mapping", name, signed, origin=origin)
    where = {"mode": "webhook", "webhook_url": said.url, "send_once": True, "webhook_mapping": name}
    transport = Resource("authentik.transport", name, where, (mapping.id,), origin)
    group = _group(estate, settings, said.group, origin)
    needs = (transport.id, group.id)
    rule = Resource(
        "authentik.rule", name, {"severity": "notice", "group": said.group, "transports": [name]}, needs, origin
    )
    yield from (mapping, transport, group, rule)
    for order, event in enumerate(said.actions):
        action, model = ACTIONS[event]
        # With `app` set nothing ever matches.
        matcher = Resource(
            "authentik.matcher", f"{name}/{event}", {"action": action, "model": model or ""}, origin=origin
        )
        spec = {"rule": name, "order": order, "enabled": True, "negate": False}
        yield matcher
        yield Resource("authentik.trigger", matcher.key, spec, (rule.id, matcher.id), origin)
