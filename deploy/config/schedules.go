package config

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/forebay-queue/forebay/tasks"
	"github.com/forebay-queue/forebay/tasks/catalog"
	"github.com/forebay-queue/forebay/tasks/schedules"
)

// validateSchedules reads the schedules, and checks that the catalog has what their jobs ask for.
func (f *File) validateSchedules() []error {
	f.recurring = nil
	var problems []error
	now := time.Now()
	for i, given := range f.Schedules {
		told := func(field, problem string) {
			path := append([]string{"schedules", catalog.ListIndex(i)}, strings.Split(field, ".")...)
			problems = append(problems, refuse(problem, path...))
		}
		schedule, err := given.read()
		if err == nil {
			err = schedule.Complete(now)
		}
		if err == nil {
			_, err = f.Catalog.Prepare(schedule.Job, now)
		}
		for _, problem := range parts(err) {
			var field *tasks.FieldError
			var own *schedules.FieldError
			switch {
			case errors.As(problem, &own):
				told(own.Field, own.Problem)
			case errors.As(problem, &field):
				told(strings.TrimSuffix("job."+field.Field, "."), field.Problem)
			case problem != nil:
				told("job", problem.Error())
			}
		}
		for _, before := range f.recurring {
			if before.Name == schedule.Name && before.Tenant == schedule.Tenant {
				told("name", fmt.Sprintf("stands here twice for tenant %s", schedule.Tenant))
			}
		}
		f.recurring = append(f.recurring, schedule)
	}
	return problems
}

// read is the schedule as the file says it.
func (s Schedule) read() (schedules.Schedule, error) {
	schedule := schedules.Schedule{
		Name: s.Name, Tenant: s.Tenant, Cron: s.Cron, TimeZone: s.TimeZone, Missed: schedules.Missed(s.Missed),
		ExpiresAfter: tasks.Duration(s.ExpiresAfter),
	}
	encoded, err := tasks.Encode(s.Job)
	if err == nil {
		schedule.Job, err = tasks.DecodeJob(encoded)
	}
	return schedule, err
}
