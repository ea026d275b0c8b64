//! Who may do what, on both engines: keys that are made, taken, refused and revoked; and the page that shows the matrix.

#[cfg(test)]
mod iam {
    use std::collections::BTreeSet;

    use platform_audit::Class;
    use platform_iam::access::Report;
    use platform_iam::{
        Action, Denied, IamError, KeyMade, KeyState, KeyText, NewKey, Pepper, Permit, Principal, PrincipalName, Reach, Reports, Role,
        Target, Unknown, authenticate, authorize, bootstrap, key_create, key_revoke, keys, organization_add, organizations, project_add,
        projects, reach, source_enroll, sources,
    };
    use shared_db::{Database, OutboxEvent, Transaction};
    use shared_testkit::{append_only_refusals, on_both_engines};
    use shared_types::{BatchNo, Instant, OrganizationId, ProjectId, SourceId};

    const OWNERS: &[&str] = &["platform-iam", "platform-audit"];

    fn pepper() -> Pepper {
        Pepper::from_bytes(&[7; 32])
    }

    fn at(second: i64) -> Instant {
        Instant::from_micros(1_700_000_000_000_000 + second * 1_000_000).unwrap()
    }

    fn organization(text: &str) -> OrganizationId {
        OrganizationId::parse(text).unwrap()
    }

    fn source(text: &str) -> SourceId {
        SourceId::parse(text).unwrap()
    }

    fn local(action: Action) -> Permit {
        authorize(&Principal::local(), action, Target::Deployment).unwrap()
    }

    fn wanted(principal: &str, role: Role) -> NewKey {
        let principal = PrincipalName::parse(principal).unwrap();
        NewKey { principal, role, organization: None, sources: BTreeSet::new(), scopes: None, expires_at: None }
    }

    async fn create(tx: &mut Transaction, wanted: &NewKey, random: u8) -> Result<KeyMade, IamError> {
        key_create(tx, &local(Action::KeyCreate), wanted, KeyText::from_random(&[random; 40]), &pepper(), at(0)).await
    }

    async fn presented(tx: &mut Transaction, made: &KeyMade, when: Instant) -> Result<Principal, Unknown> {
        authenticate(tx, &pepper(), made.text.reveal(), when).await
    }

    /// Two organizations, a source that reports for one of them, one that reports for all.
    async fn world(tx: &mut Transaction) {
        for name in ["acme", "other"] {
            organization_add(tx, &local(Action::OrganizationAdd), &organization(name), name, at(0)).await.unwrap();
        }
        let of_acme = Reports::Of(BTreeSet::from([organization("acme")]));
        source_enroll(tx, &local(Action::SourceEnroll), &source("gateway"), false, &of_acme, at(0)).await.unwrap();
        source_enroll(tx, &local(Action::SourceEnroll), &source("everywhere"), false, &Reports::Any, at(0)).await.unwrap();
    }

    #[tokio::test]
    async fn a_key_is_taken_until_it_expires_or_is_revoked() {
        on_both_engines(OWNERS, |db| async move {
            let mut tx = db.begin().await.unwrap();
            world(&mut tx).await;
            let limited = NewKey { expires_at: Some(at(100)), ..wanted("finance-app", Role::Finance) };
            let (made, forever) =
                (create(&mut tx, &limited, 1).await.unwrap(), create(&mut tx, &wanted("finance-app", Role::Finance), 2).await.unwrap());
            let principal = presented(&mut tx, &made, at(99)).await.unwrap();
            assert_eq!((principal.name(), principal.role(), principal.key()), ("finance-app", Role::Finance, Some(&made.key.key)));
            assert!(matches!(presented(&mut tx, &made, at(100)).await, Err(Unknown::Expired { .. })));
            assert!(presented(&mut tx, &forever, at(1_000_000)).await.is_ok(), "a principal may have several keys");
            key_revoke(&mut tx, &local(Action::KeyRevoke), &forever.key.key, at(5)).await.unwrap();
            assert!(matches!(presented(&mut tx, &forever, at(6)).await, Err(Unknown::Revoked { at: when, .. }) if when == at(5)));
            let again = key_revoke(&mut tx, &local(Action::KeyRevoke), &forever.key.key, at(9)).await.unwrap();
            assert_eq!(again.revoked_at, Some(at(5)), "the first revocation stands");
            let states: Vec<KeyState> = keys(&mut tx, &local(Action::KeyRead)).await.unwrap().iter().map(|key| key.state(at(50))).collect();
            assert_eq!(states, [KeyState::Valid, KeyState::Revoked]);
        })
        .await;
    }

    #[tokio::test]
    async fn unknown_keys_and_another_pepper_recognise_nobody() {
        on_both_engines(OWNERS, |db| async move {
            let mut tx = db.begin().await.unwrap();
            let made = create(&mut tx, &wanted("ops", Role::Operator), 1).await.unwrap();
            let stranger = KeyText::from_random(&[9; 40]);
            assert!(matches!(authenticate(&mut tx, &pepper(), stranger.reveal(), at(0)).await, Err(Unknown::Unknown)));
            // The id of a key that exists, with another secret.
            let mut random = [1; 40];
            random[20] = 2;
            let forged = KeyText::from_random(&random);
            assert_eq!(forged.id(), made.text.id());
            assert!(matches!(authenticate(&mut tx, &pepper(), forged.reveal(), at(0)).await, Err(Unknown::Unknown)));
            let other = Pepper::from_bytes(&[8; 32]);
            assert!(matches!(authenticate(&mut tx, &other, made.text.reveal(), at(0)).await, Err(Unknown::Unknown)));
            assert!(matches!(authenticate(&mut tx, &pepper(), "", at(0)).await, Err(Unknown::Malformed(_))));
            tx.commit().await.unwrap();
            // What the tables hold opens nothing.
            let mut tx = db.read().await.unwrap();
            let records = platform_audit::records_after(&mut tx, 0, 100).await.unwrap();
            let shown = format!("{records:?} {:?}", keys(&mut tx, &local(Action::KeyRead)).await.unwrap());
            assert!(!shown.contains(&made.text.reveal()[17..40]), "{shown}");
        })
        .await;
    }

    #[tokio::test]
    async fn the_first_operator_key_is_made_once() {
        on_both_engines(OWNERS, |db| async move {
            let mut tx = db.begin().await.unwrap();
            let permit = local(Action::KeyCreate);
            let first = bootstrap(&mut tx, &permit, KeyText::from_random(&[1; 40]), &pepper(), at(0)).await.unwrap().unwrap();
            assert_eq!(presented(&mut tx, &first, at(1)).await.unwrap().role(), Role::Operator);
            assert!(bootstrap(&mut tx, &permit, KeyText::from_random(&[2; 40]), &pepper(), at(1)).await.unwrap().is_none());
            key_revoke(&mut tx, &local(Action::KeyRevoke), &first.key.key, at(2)).await.unwrap();
            assert!(bootstrap(&mut tx, &permit, KeyText::from_random(&[3; 40]), &pepper(), at(3)).await.unwrap().is_none());
        })
        .await;
    }

    #[tokio::test]
    async fn what_does_not_fit_is_refused_by_name() {
        on_both_engines(OWNERS, |db| async move {
            let mut tx = db.begin().await.unwrap();
            world(&mut tx).await;
            create(&mut tx, &wanted("ops", Role::Operator), 1).await.unwrap();
            let acme = Some(organization("acme"));
            let agent = |name: &str| NewKey { sources: BTreeSet::from([source(name)]), ..wanted("agent", Role::Agent) };
            let cases = [
                (wanted("c", Role::Customer), "role customer: a customer's key belongs to an organization: name it"),
                (
                    NewKey { organization: Some(organization("nobody")), ..wanted("c", Role::Customer) },
                    "organization nobody is not registered: run `tally organization add nobody` first",
                ),
                (
                    NewKey { organization: acme.clone(), ..wanted("f", Role::Finance) },
                    "organization acme: only a customer's key belongs to an organization; leave it out",
                ),
                (wanted("a", Role::Agent), "role agent: an agent's key sends as enrolled sources: name at least one"),
                (agent("nowhere"), "source nowhere is not enrolled: run `tally source enroll nowhere` first"),
                (
                    NewKey { sources: BTreeSet::from([source("gateway")]), ..wanted("o", Role::Operator) },
                    "source gateway: only an agent's key sends as a source; leave it out",
                ),
                (
                    NewKey { scopes: Some(BTreeSet::from([Action::KeyCreate])), ..wanted("f", Role::Finance) },
                    "scope iam.key.create: role finance does not have it; docs/reference/access.md lists what it has",
                ),
                (
                    NewKey { scopes: Some(BTreeSet::new()), ..wanted("f", Role::Finance) },
                    "scopes: none is left; leave them out for all that the role may do",
                ),
                (
                    NewKey { expires_at: Some(at(0)), ..wanted("f", Role::Finance) },
                    "expiry 2023-11-14T22:13:20Z: it is over already; give a later one",
                ),
                (
                    wanted("ops", Role::Finance),
                    "principal ops exists with role operator, not with role finance: it stays as it is, take another name",
                ),
            ];
            for (wanted, words) in cases {
                let refused = create(&mut tx, &wanted, 9).await.unwrap_err();
                assert_eq!(refused.to_string(), words);
            }
            let permit = local(Action::SourceEnroll);
            let sequenced = source_enroll(&mut tx, &permit, &source("lanes"), true, &Reports::Any, at(0)).await.unwrap_err();
            assert!(sequenced.to_string().contains("nothing checks the numbers"), "{sequenced}");
            let silent = source_enroll(&mut tx, &permit, &source("silent"), false, &Reports::Of(BTreeSet::new()), at(0)).await.unwrap_err();
            assert!(silent.to_string().contains("report for nobody"), "{silent}");
            let renamed =
                organization_add(&mut tx, &local(Action::OrganizationAdd), &organization("acme"), "Acme 2", at(1)).await.unwrap_err();
            assert!(matches!(renamed, IamError::Exists { .. }), "{renamed}");
            for name in ["", "local", "unknown", "a b", "ä", &"x".repeat(65)] {
                assert!(PrincipalName::parse(name).is_err(), "{name}");
            }
        })
        .await;
    }

    #[tokio::test]
    async fn an_agent_reports_what_its_sources_may_and_reads_nothing() {
        on_both_engines(OWNERS, |db| async move {
            let mut tx = db.begin().await.unwrap();
            world(&mut tx).await;
            let sources = BTreeSet::from([source("gateway"), source("everywhere")]);
            let made = create(&mut tx, &NewKey { sources, ..wanted("agent", Role::Agent) }, 1).await.unwrap();
            let agent = presented(&mut tx, &made, at(1)).await.unwrap();
            let send = |principal: &Principal, reports: &[(Option<&str>, Option<&str>)]| {
                let reports = reports.iter().map(|(from, of)| Report { source: from.map(source), organization: of.map(organization) });
                authorize(principal, Action::EventsSend, Target::Reports(reports.collect())).map(drop)
            };
            assert_eq!(send(&agent, &[(Some("gateway"), Some("acme")), (Some("everywhere"), Some("unregistered"))]), Ok(()));
            for refused in
                [(Some("gateway"), Some("other")), (Some("elsewhere"), Some("acme")), (None, Some("acme")), (Some("gateway"), None)]
            {
                let denied = send(&agent, &[(Some("gateway"), Some("acme")), refused]);
                assert!(matches!(denied, Err(Denied::Report { .. })), "{refused:?}: {denied:?}");
            }
            assert!(matches!(authorize(&agent, Action::EventsSend, Target::Deployment), Err(Denied::Everything { .. })));
            for action in Action::ALL.iter().filter(|action| **action != Action::EventsSend) {
                let denied = authorize(&agent, *action, Target::Organization(organization("acme")));
                assert!(matches!(denied, Err(Denied::Role { .. })), "{action}: {denied:?}");
            }
            // What is enrolled later counts from the next request on.
            let more = Reports::Of(BTreeSet::from([organization("other")]));
            source_enroll(&mut tx, &local(Action::SourceEnroll), &source("gateway"), false, &more, at(2)).await.unwrap();
            let agent = presented(&mut tx, &made, at(3)).await.unwrap();
            assert_eq!(send(&agent, &[(Some("gateway"), Some("other")), (Some("gateway"), Some("acme"))]), Ok(()));
            let enrolled = platform_iam::sources(&mut tx, &local(Action::SourceRead)).await.unwrap();
            let both = BTreeSet::from([organization("acme"), organization("other")]);
            assert_eq!(enrolled.iter().map(|source| &source.reports).collect::<Vec<_>>(), [&Reports::Any, &Reports::Of(both)]);
        })
        .await;
    }

    #[tokio::test]
    async fn a_customer_sees_and_revokes_its_own_alone() {
        on_both_engines(OWNERS, |db| async move {
            let mut tx = db.begin().await.unwrap();
            world(&mut tx).await;
            let mut made = Vec::new();
            for (random, name) in [(1, "acme"), (2, "other")] {
                let of = NewKey { organization: Some(organization(name)), ..wanted(&format!("{name}-app"), Role::Customer) };
                made.push(create(&mut tx, &of, random).await.unwrap());
                let (permit, project) = (local(Action::ProjectAdd), ProjectId::parse("chat").unwrap());
                project_add(&mut tx, &permit, &organization(name), &project, "Chat", at(0)).await.unwrap();
            }
            create(&mut tx, &wanted("ops", Role::Operator), 3).await.unwrap();
            let acme = presented(&mut tx, &made[0], at(1)).await.unwrap();
            let own = |action: Action| authorize(&acme, action, Target::Organization(organization("acme"))).unwrap();
            let seen = keys(&mut tx, &own(Action::KeyRead)).await.unwrap();
            assert_eq!(seen.iter().map(|key| key.principal.as_str()).collect::<Vec<_>>(), ["acme-app"]);
            assert_eq!(organizations(&mut tx, &own(Action::OrganizationRead)).await.unwrap().len(), 1);
            assert_eq!(projects(&mut tx, &own(Action::ProjectRead)).await.unwrap().len(), 1);
            assert!(matches!(authorize(&acme, Action::KeyRead, Target::Organization(organization("other"))), Err(Denied::Foreign)));
            assert!(matches!(authorize(&acme, Action::KeyRead, Target::Deployment), Err(Denied::Everything { .. })));
            // Another's key and one that does not exist are refused alike.
            for key in [made[1].key.key.clone(), KeyText::from_random(&[77; 40]).id()] {
                let refused = key_revoke(&mut tx, &own(Action::KeyRevoke), &key, at(2)).await.unwrap_err();
                assert!(matches!(refused, IamError::NoKey { .. }), "{refused}");
            }
            key_revoke(&mut tx, &own(Action::KeyRevoke), &made[0].key.key, at(2)).await.unwrap();
            // A permit for one action opens no other.
            let misused = organization_add(&mut tx, &own(Action::KeyRead), &organization("acme"), "acme", at(3)).await.unwrap_err();
            assert!(matches!(misused, IamError::Permit { .. }), "{misused}");
            assert!(matches!(sources(&mut tx, &own(Action::KeyRead)).await, Err(IamError::Permit { .. })));
        })
        .await;
    }

    #[tokio::test]
    async fn a_key_does_no_more_than_its_scopes() {
        on_both_engines(OWNERS, |db| async move {
            let mut tx = db.begin().await.unwrap();
            let scopes = Some(BTreeSet::from([Action::UsageRead, Action::InvoiceRead]));
            let made = create(&mut tx, &NewKey { scopes, ..wanted("report", Role::Finance) }, 1).await.unwrap();
            let principal = presented(&mut tx, &made, at(1)).await.unwrap();
            for action in Action::ALL {
                let allowed = authorize(&principal, *action, Target::Deployment).is_ok();
                assert_eq!(allowed, [Action::UsageRead, Action::InvoiceRead].contains(action), "{action}");
            }
        })
        .await;
    }

    #[tokio::test]
    async fn every_change_leaves_its_record_and_repeating_it_none() {
        on_both_engines(OWNERS, |db| async move {
            let mut tx = db.begin().await.unwrap();
            for _ in 0..2 {
                world(&mut tx).await;
                let project = ProjectId::parse("chat").unwrap();
                project_add(&mut tx, &local(Action::ProjectAdd), &organization("acme"), &project, "Chat", at(0)).await.unwrap();
            }
            let of_acme = NewKey { organization: Some(organization("acme")), ..wanted("app", Role::Customer) };
            let made = create(&mut tx, &of_acme, 1).await.unwrap();
            for _ in 0..2 {
                key_revoke(&mut tx, &local(Action::KeyRevoke), &made.key.key, at(1)).await.unwrap();
            }
            let records = platform_audit::records_after(&mut tx, 0, 100).await.unwrap();
            let found: Vec<String> =
                records.iter().map(|record| format!("{} {}", record.chain, record.member("action").unwrap())).collect();
            let expected = [
                "organization/acme iam.organization.add",
                "organization/other iam.organization.add",
                "deployment iam.source.enroll",
                "deployment iam.source.enroll",
                "organization/acme iam.project.add",
                "organization/acme iam.key.create",
                "organization/acme iam.key.revoke",
            ];
            assert_eq!(found, expected);
            assert_eq!(platform_audit::verify(&mut tx).await.unwrap(), []);
        })
        .await;
    }

    #[tokio::test]
    async fn the_database_itself_refuses_changes() {
        on_both_engines(OWNERS, |db| async move {
            fill(&db).await;
            let tables = append_only_refusals(&db).await.unwrap();
            assert_eq!(tables.iter().filter(|table| table.starts_with("platform_iam_")).count(), 8, "{tables:?}");
        })
        .await;
    }

    /// A row in every table: refusals are tried on rows.
    async fn fill(db: &Database) {
        let mut tx = db.begin().await.unwrap();
        world(&mut tx).await;
        let project = ProjectId::parse("chat").unwrap();
        project_add(&mut tx, &local(Action::ProjectAdd), &organization("acme"), &project, "Chat", at(0)).await.unwrap();
        let agent = NewKey { sources: BTreeSet::from([source("gateway")]), ..wanted("agent", Role::Agent) };
        let made = create(&mut tx, &agent, 1).await.unwrap();
        key_revoke(&mut tx, &local(Action::KeyRevoke), &made.key.key, at(1)).await.unwrap();
        shared_db::advance(&mut tx, "test", BatchNo(0), BatchNo(1)).await.unwrap();
        let event = OutboxEvent {
            subject: "platform.iam.test".to_owned(),
            event_type: "test".to_owned(),
            version: 1,
            correlation_id: "test".to_owned(),
            payload: "{}".to_owned(),
        };
        shared_db::enqueue(&mut tx, event).await.unwrap();
        tx.commit().await.unwrap();
    }

    /// The page of the matrix.
    fn page() -> String {
        let mut page = "# Access\n\n\
        Who may do what: rendered from `control/iam/src/matrix.rs` by a test, which compares it (`TALLY_WRITE_GOLDEN=1` rewrites it).\n\n\
        **any**: on the things of every organization and of the deployment. **own**: on those of the key's own organization; for an agent, on\n\
        what its sources may report. Another organization's things are answered as if they were not there (404). **–**: not at all (403).\n\
        A key can be made for less than its role may: its scopes are names of this table. The OS user who runs `tally` in the home is the\n\
        principal `local` and may what an operator may.\n\n\
        | Action | Class |"
        .to_owned();
        for role in Role::ALL {
            page.push_str(&format!(" {role} |"));
        }
        page.push_str("\n|---|---|---|---|---|---|---|\n");
        // Presenting a key is tried before anybody is known.
        for action in Action::ALL.iter().filter(|action| action.class() != Class::Access) {
            page.push_str(&format!("| `{action}` | {} |", action.class().name()));
            for role in Role::ALL {
                page.push_str(match reach(role, *action) {
                    Reach::Any => " any |",
                    Reach::Own => " own |",
                    Reach::None => " – |",
                });
            }
            page.push('\n');
        }
        page
    }

    #[test]
    fn the_page_of_the_matrix_is_the_matrix() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/reference/access.md");
        if std::env::var_os("TALLY_WRITE_GOLDEN").is_some() {
            std::fs::write(path, page()).unwrap();
        }
        assert!(
            std::fs::read_to_string(path).unwrap_or_default() == page(),
            "docs/reference/access.md is not the matrix: TALLY_WRITE_GOLDEN=1 rewrites it"
        );
    }

    #[test]
    fn no_role_but_an_operator_changes_who_may_do_what() {
        for action in [
            Action::KeyCreate,
            Action::OrganizationAdd,
            Action::SourceEnroll,
            Action::RegistryPublish,
            Action::FoldRebuild,
            Action::LakeCompact,
        ] {
            for role in Role::ALL {
                assert_eq!(reach(role, action), if role == Role::Operator { Reach::Any } else { Reach::None }, "{role} {action}");
            }
        }
        for action in Action::ALL {
            assert_ne!(reach(Role::Customer, *action), Reach::Any, "a customer reaches its own things alone: {action}");
            assert_ne!(reach(Role::Agent, *action), Reach::Any, "{action}");
        }
    }
}
